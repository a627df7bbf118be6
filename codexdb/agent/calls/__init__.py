"""Tool calls, from the model's request to their output: decided, put on record, run, put on record."""
