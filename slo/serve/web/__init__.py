"""The pages, and the data that only they ask for."""
