"""What is measured: passive counts, probes, and people's own instrumentation."""
