#!/usr/bin/env bash
# Style and types, the same for people and CI.
set -euo pipefail
cd "$(dirname "$0")/.."
.venv/bin/ruff check --quiet .
.venv/bin/ruff format --check --quiet . || { echo "error: not formatted → make format" >&2; exit 1; }
.venv/bin/mypy --no-error-summary
