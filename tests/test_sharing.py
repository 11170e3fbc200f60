"""Files that share a server run in the same process."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.sharing import ByServer, shared_by

TESTS = Path(__file__).parent


def test_files_that_share_a_server_go_together_and_others_apart(pytestconfig: pytest.Config) -> None:
    scheduler = object.__new__(ByServer)  # a whole one starts processes
    scheduler.config = pytestconfig
    scopes = [
        scheduler._split_scope(f"tests/{file}.py::test_a[a::b@c]")
        for file in ("deploy/test_server", "watch/test_watch_live", "deploy/test_full_size")
    ]
    assert scopes == ["the server", "the server", str(TESTS / "deploy" / "test_full_size.py")]


@pytest.mark.parametrize(
    ("parameter", "what"),
    [
        ("(?:stock_)?server: Server", "the server"),
        ("drilled: Server", "the server for drills"),
        ("guarded: Guarded", "the server with authentication"),
    ],
)
def test_whoever_asks_for_a_shared_server_says_so(parameter: str, what: str) -> None:
    """Else another process would start the same server once more."""
    asks = re.compile(rf"^(?:async )?def test_\w+\([^)]*\b{parameter}\b", re.MULTILINE)
    texts = {file: file.read_text(encoding="utf-8") for file in TESTS.rglob("test_*.py")}
    asking = [file for file, text in texts.items() if "pytest.mark.server" in text and asks.search(text)]
    assert asking
    assert {str(file.relative_to(TESTS)): shared_by(file) for file in asking if shared_by(file) != what} == {}
