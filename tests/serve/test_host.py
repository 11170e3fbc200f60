"""What is set in the process: no Nagle on the listener, and a calmer collector."""

import gc
import socket
from pathlib import Path

from slo.serve.host import GC_THRESHOLDS, calm_gc, set_nodelay


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
