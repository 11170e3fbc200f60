"""kill -9 at the worst instants, with real processes and a real receiver."""

import io
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from slo.config import Config
from slo.watch.delivery.channels import open_outbox
from tests.watch.delivery.sinks.receiver import Answer, Receiver

# The child dies as the machine would have it: no handler, no flush, no commit.
CHILD = """
import os, signal, sys
from pathlib import Path
from slo.config import Config
from slo.watch.delivery.channels import open_outbox
from slo.watch.delivery.outbox import Outbox
from tests.watch.delivery.sinks.receiver import note

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

moment, folder = sys.argv[1], Path(sys.argv[2])
config = Config().replaced(**{"alerts.webhook.enabled": True, "alerts.console.enabled": False,
                              "alerts.file.enabled": False, "state_dir": folder})
with open_outbox(config) as outbox:
    outbox.put(note("the-event"))
    if moment == "between persist and send":
        die()
    Outbox._settle = die
    outbox.pump()
"""


def config_in(folder: Path) -> Config:
    return Config().replaced(
        **{
            "alerts.webhook.enabled": True, "alerts.console.enabled": False, "alerts.file.enabled": False,
            "state_dir": folder,
        }
    )  # fmt: skip


@pytest.mark.parametrize(
    ("moment", "titles"),
    [
        ("between persist and send", ["gte-base-zh P95 412ms"]),
        ("between send and mark", ["gte-base-zh P95 412ms", "[重发] gte-base-zh P95 412ms"]),
    ],
)
def test_a_killed_sender_loses_nothing_and_repeats_at_most_once(moment: str, titles: list[str], tmp_path: Path) -> None:
    with Receiver(lambda _: Answer("", status=204)) as receiver:
        environ = {"SLO_WEBHOOK_URL": receiver.url("/hook")}
        child = subprocess.run(
            [sys.executable, "-c", CHILD, moment, str(tmp_path)], env=environ, check=False, timeout=60
        )
        assert child.returncode == -signal.SIGKILL
        for _ in range(3):  # whoever comes next, and next again
            with open_outbox(config_in(tmp_path), environ=environ, console=io.StringIO()) as outbox:
                outbox.pump()
        told = [request.json["alerts"][0]["annotations"]["summary"] for request in receiver.requests]
        assert told == titles
        assert {request.headers["x-slo-event-id"] for request in receiver.requests} == {"the-event"}
