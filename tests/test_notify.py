"""What a service manager is told, over a real datagram socket; and silence where there is none."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from slo.notify import notify


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(5)
        yield listening


def test_lines_arrive_in_one_datagram_and_cannot_forge_others(manager: socket.socket, tmp_path: Path) -> None:
    assert notify("READY=1", "STATUS=up\nWATCHDOG=1", environ={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert manager.recv(1000) == b"READY=1\nSTATUS=up WATCHDOG=1"


def test_an_abstract_socket_is_reached() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0slo-test-notify")
        listening.settimeout(5)
        assert notify("WATCHDOG=1", environ={"NOTIFY_SOCKET": "@slo-test-notify"})
        assert listening.recv(1000) == b"WATCHDOG=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": "relative"}, {"NOTIFY_SOCKET": "/nobody/there"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    assert not notify("READY=1", environ=environ)
