"""Does an HTTP server answer? One question over one socket, within one deadline, and without an HTTP library."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

PATIENCE_S = 2.5  # for one answer, by those who keep a server


def answers(endpoint: str, path: str, *, timeout_s: float) -> bool:
    """Whether `endpoint` begins an HTTP answer to `GET path` in time, whatever its status."""
    parts = urlsplit(endpoint)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    request = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n".encode("ascii")
    deadline_s = time.monotonic() + timeout_s
    received = b""
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(request)
            while len(received) < len(b"HTTP/1.1 "):
                connection.settimeout(max(0.01, deadline_s - time.monotonic()))
                piece = connection.recv(64)
                if not piece:
                    return False
                received += piece
    except OSError:
        return False
    return received.startswith(b"HTTP/")
