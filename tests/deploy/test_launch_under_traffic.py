"""On a real Xinference: users' requests before, during and after a launch neither undo it nor are told 404."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from rich.console import Console

from slo.deploy.job import Progress
from slo.deploy.launch import launch
from slo.deploy.status import status, stop
from tests.servers import settings

pytestmark = pytest.mark.server


@contextmanager
def traffic(endpoint: str, model: str) -> Iterator[Counter[str]]:
    """Twenty requests a second, counted by what came back."""
    seen: Counter[str] = Counter()
    done = threading.Event()

    def send() -> None:
        with requests.Session() as session:
            session.trust_env = False
            while not done.wait(0.2):
                try:
                    body = {"model": model, "input": f"{time.time_ns()}"}
                    answer = session.post(f"{endpoint}/v1/embeddings", json=body, timeout=30)
                except requests.RequestException:
                    seen["nobody"] += 1
                else:
                    seen[f"{answer.status_code}{'' if 'retry-after' in answer.headers else ' for good'}"] += 1

    threads = [threading.Thread(target=send, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield seen
    finally:
        done.set()
        for thread in threads:
            thread.join()


def test_a_launch_under_traffic_succeeds_and_nobody_is_told_404(tmp_path: Path, tiny_model: Path) -> None:
    config = settings(tmp_path, tiny_model)
    try:
        with (tmp_path / "launch.txt").open("w", encoding="utf-8") as report:
            for name in (config.model.name, "another-name"):  # the second one on the server that the first one started
                config = config.replaced(**{"model.name": name})
                with traffic(config.endpoint, name) as seen:
                    time.sleep(1)
                    assert launch(config, Progress(Console(file=report, width=200))).changed
                    assert status(config).up
                    time.sleep(1)
                assert seen["200 for good"] > 10, seen
                unknown = {"404 for good"} if name == "another-name" else set()  # until its launch begins
                assert set(seen) <= {"nobody", "503", "200 for good"} | unknown, seen
    finally:
        stop(config, say=lambda _: None)
