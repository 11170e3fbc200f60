"""Which addresses are this machine's: decided here for whoever listens, asks, or judges who asked."""

from __future__ import annotations

import socket
from ipaddress import IPv6Address, ip_address

import psutil


def is_loopback(host: str) -> bool:
    """Is `host` an address that only this machine can reach? Also in IPv6's way of writing one of IPv4."""
    try:
        address = ip_address(host.strip("[]"))
    except ValueError:
        return host == "localhost"
    inner = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (inner or address).is_loopback


def is_this_machine(host: str) -> bool:
    """Is `host` an address of this machine, or a name for one?"""
    if is_loopback(host):
        return True
    own = {address.address.partition("%")[0] for addresses in psutil.net_if_addrs().values() for address in addresses}
    try:
        found = {str(entry[4][0]).partition("%")[0] for entry in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):  # no such host, or nothing that could be one
        return False
    return bool(found & own)
