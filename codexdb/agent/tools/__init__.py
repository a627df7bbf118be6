"""The tools a model may call: what each is told about, how its call runs, and what comes back of it."""
