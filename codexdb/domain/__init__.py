"""What exists: values, states and bounds. No I/O, no clock of its own, no third-party import but pydantic."""
