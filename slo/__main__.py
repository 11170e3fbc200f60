"""`slo` and `python -m slo`."""

from __future__ import annotations

from slo.interrupt import end_at_once


def main() -> None:
    """Run the command line and leave with its exit code."""
    end_at_once()
    from slo.cli import main as run_command  # noqa: PLC0415 - a signal during its imports must find a handler

    run_command()


if __name__ == "__main__":
    main()
