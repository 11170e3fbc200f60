"""Deploy an embedding model on Xinference, make it fast enough, and keep its latency promise."""

__version__ = "0.1.0"
