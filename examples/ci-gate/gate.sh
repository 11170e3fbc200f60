#!/usr/bin/env bash
# Fail a pipeline when a change makes the server significantly slower.
#
#   gate.sh http://127.0.0.1:9997 gte-base-zh before.json
#
# The first run writes before.json (keep it as an artefact of the main branch); later ones compare with it.
# Exit codes: 0 not significantly slower, 1 slower, 2 set-up error, 3 unproven or void.
set -euo pipefail
endpoint=$1 model=$2 before=$3
measure=(slo load --endpoint "$endpoint" --model "$model" --rate "${RATE:-20}" --duration "${DURATION:-30s}" --seed 1 --json)

if [ -f "$before" ]; then
  exec "${measure[@]}" --against "$before"
fi
code=0
"${measure[@]}" > "$before.new" || code=$?
# Without something to compare with, a missed or unproven objective is no failure of this gate.
case $code in
  0 | 1 | 3) mv "$before.new" "$before" ;;
  *) rm -f "$before.new"; exit "$code" ;;
esac
