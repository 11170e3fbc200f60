#!/usr/bin/env bash
# usage: scripts/beside_load.sh COMMAND…      runs it beside one busy loop per core, and ends the loops with it
set -euo pipefail

busy() { # also ends when this script was killed; asked seldom, so that the loop is one of user time
  while kill -0 $$ 2>/dev/null; do for ((i = 0; i < 1000000; i++)); do :; done; done
}

loops=()
trap 'kill "${loops[@]}" 2>/dev/null || true' EXIT
for _ in $(seq "$(nproc)"); do
  busy &
  loops+=($!)
done
"$@"
