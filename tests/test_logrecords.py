"""What clients send cannot make a line of the log that looks like another record."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.logrecords import MOST, escape

HEAD = "2026-11-28 ERROR "
PROGRAM = """
import json, logging, sys
from slo.logrecords import escape_log_records
escape_log_records(); escape_log_records()
logging.basicConfig(stream=sys.stdout, format="2026-11-28 %(levelname)s %(message)s")
name = json.loads(sys.argv[1])
log = logging.getLogger("any.library")
log.error("no model %s", name)
log.error(f"no model {name}".replace("%", "%%"))
log.error("no model %(name)s", {"name": name})
log.error("no model %s", ValueError(name))
def fail(error):
    try:
        raise error
    except Exception:
        log.exception("failed")
fail(RuntimeError(name))
fail(ValueError(f"Model not found in the model list, uid: {name}"))
log.error("mistaken %d", name)
"""


@pytest.mark.parametrize(
    "name", ["x\n2026-11-28 ERROR forged", "x\r\n2026-11-28 ERROR forged", "x\x1b[2K2026", "x\u2028y\x85z", "plain"]
)
def test_every_line_is_a_record_or_marked_as_its_continuation(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(name)], capture_output=True, text=True, check=True, timeout=60
    )
    lines = done.stdout.splitlines()
    assert all(line.startswith((HEAD, "  | ")) for line in lines), lines
    assert sum(line.startswith(HEAD) for line in lines) == 6
    assert "\x1b" not in done.stdout
    assert sum("Traceback" in line for line in lines) == 1, "asking for an unknown model is an everyday thing"
    assert "Logging error" in done.stderr, "a mistake of the program is still told"


@given(text=st.text(alphabet=st.characters(), max_size=200))
def test_a_tamed_text_has_no_control_characters_and_marked_lines(text: str) -> None:
    first, *further = escape(text).split("\n")
    assert all(line.startswith("  | ") for line in further)
    assert not any(ord(c) < 9 or 10 < ord(c) < 32 or 127 <= ord(c) < 160 for line in (first, *further) for c in line)
    escape(text).encode("utf-8")


def test_what_is_long_is_cut_and_says_so() -> None:
    assert len(escape("长" * 10**6)) < MOST + 50
    assert "(1000000 characters)" in escape("长" * 10**6)
