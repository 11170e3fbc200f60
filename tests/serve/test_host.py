"""What is set in the process: no Nagle on the listener, and a calmer collector."""

import gc
import socket
from pathlib import Path

import pytest
from uvicorn.middleware.proxy_headers import _TrustedHosts

from slo.serve.host import GC_THRESHOLDS, believed_proxies, calm_gc, set_nodelay


def open_descriptors() -> int:
    """How many this process has."""
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_the_listener_and_what_it_accepts_have_no_delay() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert set_nodelay(port) == 1
        with socket.create_connection(("127.0.0.1", port)), listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_other_sockets_are_left_alone_and_no_descriptor_leaks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_server(("127.0.0.1", 0)) as other:
        before = open_descriptors()
        assert set_nodelay(listener.getsockname()[1]) == 1
        assert open_descriptors() == before
        assert not other.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_nobody_listening_is_said() -> None:
    assert set_nodelay(1) == 0


def test_the_collector_is_calmed_and_can_be_restored() -> None:
    before = gc.get_threshold()
    undo = calm_gc()
    assert gc.get_threshold() == GC_THRESHOLDS
    undo()
    gc.unfreeze()
    assert gc.get_threshold() == before


@pytest.mark.parametrize(
    ("peer", "listed", "client"),
    [
        ("127.0.0.1", [], "203.0.113.9"),
        ("::1", [], "203.0.113.9"),
        ("::ffff:127.0.0.1", [], "203.0.113.9"),
        ("10.0.0.7", [], None),
        ("10.0.0.7", ["10.0.0.7"], "203.0.113.9"),
        ("::ffff:10.0.0.7", ["10.0.0.0/24"], "203.0.113.9"),
        ("10.0.1.7", ["10.0.0.0/24"], None),
        ("2001:db8::7", ["2001:db8::/32"], "203.0.113.9"),
    ],
)
def test_only_listed_proxies_say_who_the_client_is(peer: str, listed: list[str], client: str | None) -> None:
    trusted = _TrustedHosts(believed_proxies(listed))
    said = trusted.get_trusted_client_address("198.51.100.1, 203.0.113.9")[0] if peer in trusted else None
    assert said == client
