"""`python -m slo`."""

from slo.cli import main

main()
