"""What was promised, and how much of the error budget is left."""
