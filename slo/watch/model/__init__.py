"""What everything else in the watch speaks of, without I/O: objectives, counts, messages, silences, maintenance."""
