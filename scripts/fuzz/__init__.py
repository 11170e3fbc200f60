"""`make fuzz`: what no client should send, sent to a real server."""
