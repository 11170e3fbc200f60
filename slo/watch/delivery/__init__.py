"""How a message reaches people: outbox, limits, channels, rehearsal and drill."""
