"""What may be forked, and when nothing may."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from slo.deploy import forkserver
from slo.deploy.forkclient import ForkClient, _known


@pytest.mark.parametrize(
    ("command", "call", "known"),
    [
        pytest.param(["-u", "/x/start_local.py", "/x/local.json"], {}, True, id="cluster"),
        pytest.param(["-m", "xoscar.backends.indigen", "start_sub_pool", "-sn", "psm"], {}, True, id="model"),
        pytest.param(["-m", "slo.serve.engine.helper", "a", "b", "auto"], {}, False, id="another module"),
        pytest.param(["-c", "pass"], {}, False, id="a command"),
        pytest.param(["-u", "/x/start_local.py", "/x/local.json"], {"pass_fds": (3,)}, False, id="descriptors"),
        pytest.param(["-u", "/x/start_local.py", "/x/local.json"], {"start_new_session": True}, False, id="session"),
        pytest.param(["-u", "/x/start_local.py", "/x/l.json"], {"preexec_fn": lambda: None}, False, id="a lambda"),
    ],
)
def test_only_what_is_known_is_forked(command: list[str], call: Mapping[str, Any], known: bool) -> None:
    assert _known([sys.executable, *command], {"executable": None, "preexec_fn": None, **call}) is known


def test_another_python_is_not_ours_to_fork() -> None:
    assert not _known(["/opt/python", "-u", "/x/start_local.py", "/x/l.json"], {"executable": None, "preexec_fn": None})


def test_harmless_variables_may_differ() -> None:
    client = ForkClient.__new__(ForkClient)
    client.baseline = {"A": "1", "XINFERENCE_MODEL_UID": "old"}
    assert client.differences({"A": "1", "CUDA_VISIBLE_DEVICES": "-1"}) == []
    assert client.differences({"A": "2", "B": "1"}) == ["A", "B"]
    assert client.differences({}) == ["A"]


def test_no_fork_beside_an_open_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forkserver, "ACCELERATORS", ("/dev/zero",))
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert forkserver.unsafe() == ""
    with Path("/dev/zero").open("rb"):
        assert "a driver is in use" in forkserver.unsafe()
