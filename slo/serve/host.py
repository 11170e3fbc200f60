"""
What the extension sets in the API process itself: TCP_NODELAY on the listening socket, calmer garbage collection, and
as many open files as it may have.
"""

from __future__ import annotations

import gc
import os
import resource
import socket
import stat
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, ip_network
from pathlib import Path

from slo.host import raise_open_files

# The first generation is collected after so many net allocations. CPython's 700 costs a walk of the second generation
# every few hundred requests; above 5000 the first alone takes several ms. Vectors and bytes hold no cycles.
GC_THRESHOLDS = (5_000, 20, 50)
LOCAL = ("127.0.0.0/8", "::1")
MOST_CONNECTIONS = 8192  # about 20 KB of memory each


def set_nodelay(port: int) -> int:
    """Turn Nagle's algorithm off on this process's listeners at `port`; accepted sockets inherit it on Linux.

    Without it every kept-alive answer waits 40 ms for the client's delayed ACK. The option lives on the kernel's
    socket, so a duplicate of the descriptor suffices. Gives the number of listeners found.
    """
    try:
        descriptors = [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]
    except OSError:
        return 0
    return sum(_calm(descriptor, port) for descriptor in descriptors)


def _calm(descriptor: int, port: int) -> bool:
    """Set the option if the descriptor is a listener at `port`."""
    try:
        if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
            return False
        copy = os.dup(descriptor)
    except OSError:  # closed since it was listed
        return False
    try:
        with socket.socket(fileno=copy) as sock:
            if not _listens(sock, port):
                return False
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return True
    except OSError:  # a kind of socket that Python cannot ask
        return False


def _listens(sock: socket.socket, port: int) -> bool:
    return (
        sock.family in (socket.AF_INET, socket.AF_INET6)
        and sock.type == socket.SOCK_STREAM
        and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1  # a connection has the same port
        and sock.getsockname()[1] == port
    )


def calm_gc() -> Callable[[], None]:
    """Keep the start-up heap out of collections, and collect more rarely; the result undoes the latter."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return lambda: gc.set_threshold(*before)


def most_connections() -> int:
    """Connections that may be open at once, after raising the limit of open files to the highest allowed.

    A quarter of the descriptors, 256 at least, stay for the rest of the process: one that runs out of them ends.
    """
    raise_open_files()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(16, min(MOST_CONNECTIONS, limit - max(256, limit // 4)))


def believed_proxies(listed: Sequence[str]) -> list[str]:
    """Whose `X-Forwarded-For` uvicorn shall believe: this machine's and the listed ones, also where IPv6 carries IPv4.

    Xinference's "*" believes everybody: whoever sends the header chooses who is locked out for wrong keys.
    """
    networks = [ip_network(each, strict=False) for each in (*LOCAL, *listed)]
    inside_ipv6 = [
        f"::ffff:{network.network_address}/{96 + network.prefixlen}"
        for network in networks
        if isinstance(network, IPv4Network)
    ]
    return [*map(str, networks), *inside_ipv6]
