"""What is this machine's own, in whatever way an address is written."""

from __future__ import annotations

import socket

import psutil
import pytest

from slo.addresses import is_loopback, is_this_machine


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("[::1]", True), ("localhost", True),
        ("::ffff:127.0.0.1", True), ("::", False), ("10.0.0.1", False), ("::ffff:10.0.0.1", False),
        ("example.org", False), ("", False),
    ],
)  # fmt: skip
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_an_address_of_an_interface_is_this_machine_and_one_of_documentation_is_not() -> None:
    own = [a.address for found in psutil.net_if_addrs().values() for a in found if a.family == socket.AF_INET]
    assert all(is_this_machine(address) for address in own)
    assert not is_this_machine("192.0.2.1")
