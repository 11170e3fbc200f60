"""What runs inside Xinference: the extension, the engine and everything between them."""
