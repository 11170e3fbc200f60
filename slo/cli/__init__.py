"""The `slo` command: one file per family of subcommands, each a thin wrapper around one library call."""

from slo.cli.main import main

__all__ = ["main"]
