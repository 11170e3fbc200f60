"""Bringing a model up on Xinference, on this host: files, server process, registration, launch, status and stop."""
