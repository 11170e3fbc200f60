"""
One exchange with a receiver, within a bound for all of it: looking up the name, connecting, every byte both ways.

Time-outs of a socket count from byte to byte, so a receiver that drips one a second is never late. Here the exchange
runs in a thread of its own. When its time is over, nobody waits for it any more and its connections are cut, which
ends the thread as well; one that hangs where nothing can be cut (the resolver) keeps no process from ending.
"""

from __future__ import annotations

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class Connections:
    """The sockets of one exchange; `connect` makes them in place of `socket.create_connection`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._handles: list[socket.socket] = []
        self._cut = False
        self.connected = False  # has a connection ever stood: may something have been sent?

    def connect(
        self,
        address: tuple[str | None, int],
        timeout: float | None = None,
        source_address: tuple[bytearray | bytes | str, int] | None = None,
    ) -> socket.socket:
        """A connection to `address` that `cut` ends, whatever becomes of the returned object (TLS takes it over)."""
        made = socket.create_connection(address, timeout, source_address)
        with self._lock:
            if self._cut:
                made.close()
                raise TimeoutError("the time for this exchange is over")
            self.connected = True
            self._handles.append(socket.socket(fileno=os.dup(made.fileno())))
        return made

    def cut(self) -> None:
        """End all connections, those under way included."""
        with self._lock:
            self._cut = True
            for handle in self._handles:
                with contextlib.suppress(OSError):
                    handle.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Forget them: the exchange is over."""
        with self._lock:
            for handle in self._handles:
                handle.close()
            self._handles.clear()


def within(bound_s: float, exchange: Callable[[Connections], T]) -> tuple[T | None, bool]:
    """What `exchange` returned, or None when `bound_s` passed first; and whether a connection ever stood.

    What it raises is raised here.
    """
    connections = Connections()
    ended: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def run() -> None:
        try:
            ended.put((exchange(connections), None))
        except BaseException as error:  # noqa: BLE001 - raised again where somebody waits for it
            ended.put((None, error))
        finally:
            connections.release()

    threading.Thread(target=run, name="exchange", daemon=True).start()
    try:
        result, error = ended.get(timeout=bound_s)
    except queue.Empty:
        return None, connections.connected
    finally:
        connections.cut()
    if error is not None:
        raise error
    return result, connections.connected
