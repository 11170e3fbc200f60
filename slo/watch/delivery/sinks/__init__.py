"""Channels that carry a notification to people: one file per channel, one method each, `send`."""
