"""What tests and the demo drive codexdb with: a model endpoint that follows a script."""
