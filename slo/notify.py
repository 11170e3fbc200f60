"""What a service under systemd tells its manager (`sd_notify`); nothing where there is no such manager."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS")


def notify(*lines: str, environ: Mapping[str, str] | None = None) -> bool:
    """Send lines such as `READY=1`, `WATCHDOG=1` or `STATUS=…`; False where nobody listens. Never raises."""
    address = (os.environ if environ is None else environ).get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.settimeout(1.0)
        channel.connect(name)
        channel.sendall("\n".join(" ".join(line.split("\n")) for line in lines).encode())
        return True
    return False
