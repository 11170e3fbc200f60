"""
A real Xinference with authentication, asked by both ways: the short one of our front door and the long one.

An `Origin` header, as a browser sends it, makes a request take the long way.
"""

from __future__ import annotations

import json
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests

from scripts.bench_ceiling import MODEL

BODY = {"model": MODEL, "input": "你好"}
OF_THE_WAY = {"access-control-allow-origin", "access-control-allow-credentials", "date", "x-request-id",
              "server-timing", "cache-status"}  # fmt: skip


@dataclass
class Guarded:
    """A server, what its administrator may do, and the file behind it."""

    endpoint: str
    key: str
    home: Path
    http: requests.Session = field(default_factory=requests.Session)

    def login(self, name: str = "bench") -> str:
        facts = {"username": name, "password": "bench-password"}
        answer = self.http.post(f"{self.endpoint}/token", json=facts, timeout=60)
        return str(answer.json()["access_token"])

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {self.login()}"}
        answer = self.http.request(method, f"{self.endpoint}/v1/admin/{path}", json=body, headers=headers, timeout=60)
        assert answer.ok, answer.text
        return answer.json()

    def new_key(self, name: str, **facts: Any) -> tuple[int, str]:
        made = self.admin("POST", "keys", {"name": name, **facts})
        return made["id"], made["key"]

    def database(self, statement: str, *values: Any) -> None:
        """A change behind the server's back."""
        with sqlite3.connect(self.home / "auth" / "auth.db") as connection:
            assert connection.execute(statement, values).rowcount == 1
        connection.close()

    def ask(self, *, long: bool = False, body: Any = BODY, sender: str = "", **headers: Any) -> requests.Response:
        send = {"Origin": "http://page.example"} if long else {}
        if sender:
            send["X-Forwarded-For"] = sender
        return self.http.post(f"{self.endpoint}/v1/embeddings", json=body, headers={**send, **headers}, timeout=60)

    def both(self, body: Any = BODY, sender: str = "", **headers: Any) -> requests.Response:
        """The answer, which is the same by both ways."""
        short = self.ask(body=body, sender=sender, **headers)
        long = self.ask(long=True, body=body, sender=sender, **headers)
        assert short.status_code == long.status_code
        assert short.content == long.content
        assert _told(short) == _told(long)
        return short

    def audited(self, most: int) -> list[dict[str, Any]]:
        """The last events of the audit log, once there are `most` of them."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            lines = (self.home / "logs" / "audit.log").read_text().splitlines()
            if len(lines) >= most:
                break
            time.sleep(0.01)
        return [json.loads(line) for line in lines]


def _told(answer: requests.Response) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items() if name.lower() not in OF_THE_WAY}
