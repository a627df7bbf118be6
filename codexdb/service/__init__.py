"""What a caller may ask: each request is decided in one transaction, and answered with a typed value."""
