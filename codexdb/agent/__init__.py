"""One turn, worked to its end. The agent sees no rows: it is given a journal to write to and a model to ask."""
