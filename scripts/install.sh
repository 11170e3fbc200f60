#!/usr/bin/env bash
# Create .venv and install the locked dependencies into it; does nothing when they are already there.
# usage: scripts/install.sh [dev]      dev adds the test and lint tools
set -euo pipefail
cd "$(dirname "$0")/.."

lock=requirements.lock
[ "${1:-}" = dev ] && lock=requirements-dev.lock
venv=.venv
uv_version=0.13.9

# What is installed is named by the locks' own content, so an edited lock installs again and a clone does not.
stamp="$venv/.installed-$(cat "$lock" pyproject.toml | sha256sum | cut -c1-16)-$(basename "$lock" .lock)"
[ -e "$stamp" ] && exit 0
# The development set contains the other one.
dev_stamp="$venv/.installed-$(cat requirements-dev.lock pyproject.toml | sha256sum | cut -c1-16)-requirements-dev"
[ -z "${1:-}" ] && [ -e "$dev_stamp" ] && exit 0

find_python() {
  for name in "${PYTHON:-}" python3.11 python3.12 python3.10 python3; do
    [ -n "$name" ] && command -v "$name" >/dev/null 2>&1 || continue
    if "$name" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
      echo "$name"; return
    fi
  done
  echo "error: no Python 3.10, 3.11 or 3.12 found" >&2
  echo "  → install one (Debian/Ubuntu: apt-get install python3 python3-venv), or set PYTHON=/path/to/python" >&2
  exit 2
}

# An installation that was interrupted, or a Python that was removed since, leaves one that does not run.
if ! "$venv/bin/python" -c 'import pip' >/dev/null 2>&1; then
  rm -rf "$venv"
  python=$(find_python)
  echo "creating $venv with $("$python" --version)" >&2
  "$python" -m venv "$venv" || {
    rm -rf "$venv"
    echo "error: $python cannot create a virtual environment" >&2
    echo "  → Debian/Ubuntu: apt-get install python3-venv" >&2
    exit 2
  }
fi
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
echo "installing $(grep -c '==' "$lock") locked packages from $lock (about 6 GB on disk: PyPI's torch brings its GPU libraries)" >&2
# Bytecode is compiled here, once, instead of during the first start of the server.
"$venv/bin/uv" pip sync --quiet --python "$venv/bin/python" --require-hashes --compile-bytecode "$lock"
"$venv/bin/uv" pip install --quiet --python "$venv/bin/python" --no-deps --no-build-isolation --editable .
rm -f "$venv"/.installed-*
touch "$stamp"
