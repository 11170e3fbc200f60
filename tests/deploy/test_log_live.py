"""On a real Xinference: its log says what happened, no more than that, and goes on after logrotate."""

from __future__ import annotations

import pytest
import requests

from tests.real_servers import until
from tests.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.shares("the server")]


def test_the_log_cannot_be_forged_and_is_reopened_when_it_was_moved(server: Server) -> None:
    forged = "2026-01-01T00:00:00.000Z CRITICAL forged record"
    names = [f"no-such-model\n{forged}", f"no-such-model\r{forged}", "no-such-" + "x" * 10_000, "no-such-model"]
    for name in names:
        answer = requests.post(f"{server.endpoint}/v1/embeddings", json={"model": name, "input": "a"}, timeout=30)
        assert answer.status_code == 404
    requests.get(f"{server.endpoint}/v1/models/no-such-model%0A{forged.replace(' ', '%20')}", timeout=30)
    lines = server.log.read_text(encoding="utf-8").splitlines()
    assert not any(line.startswith(forged) for line in lines)
    assert max(map(len, lines)) < 8000
    moved = server.log.with_name("moved.log")
    server.log.rename(moved)
    until("reopened", server.log.exists)
    requests.post(f"{server.endpoint}/v1/embeddings", json={"model": "after-it", "input": "a"}, timeout=30)
    until("written to", lambda: "after-it" in server.log.read_text(encoding="utf-8"))
    whole = moved.read_bytes() + server.log.read_bytes()
    server.log.write_bytes(whole)  # other tests read it
