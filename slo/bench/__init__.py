"""Measure an embeddings endpoint: what was asked, when it was due, and what that proves."""
