#!/usr/bin/env bash
# Compile the lock files from pyproject.toml: one set of versions for Python 3.10 to 3.12, with hashes.
set -euo pipefail
cd "$(dirname "$0")/.."
common=(--quiet --universal --python-version 3.10 --generate-hashes --no-emit-index-url --no-header pyproject.toml)
uv=.venv/bin/uv; [ -x "$uv" ] || uv=uv
"$uv" pip compile "${common[@]}" --group build --group dev "$@" --output-file requirements-dev.lock
# The runtime set takes its versions from the development set, so that what is tested is what is shipped.
"$uv" pip compile "${common[@]}" --group build --constraint requirements-dev.lock --output-file requirements.lock
