"""
One exchange with a receiver, and one POST to one address: the only place where alerts meet HTTP.

An exchange has one bound in time for all of it: looking up the name, connecting, every byte both ways. Time-outs of a
socket count from byte to byte, so a receiver that drips one a second is never late. Here the exchange runs in a thread
of its own. When its time is over, nobody waits for it any more and its connections are cut, which ends the thread as
well; one that hangs where nothing can be cut (the resolver) keeps no process from ending.

`urllib`, not `requests`: urllib3 logs the path of every request, and here the path is the secret. Certificates are
always verified, redirects never followed, answers read with a bound in bytes. What the network does becomes a `Retry`;
a message names the host and nothing else of the address.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import os
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import certifi

from slo.addresses import is_this_machine
from slo.errors import ConfigError
from slo.watch.delivery.sinks.outcome import Diagnosis, Retry
from slo.watch.delivery.sinks.secret import Secret, mask

T = TypeVar("T")


class Sockets:
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


def within(bound_s: float, exchange: Callable[[Sockets], T]) -> tuple[T | None, bool]:
    """What `exchange` returned, or None when `bound_s` passed first; and whether a connection ever stood.

    What it raises is raised here.
    """
    connections = Sockets()
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


LONGEST_ANSWER = 64 * 1024

NOT_TRUSTED = Diagnosis(
    "TLS 证书不被信任：检查系统时间、代理与私有 CA（alerts.ca_file）；绝不会跳过校验",
    "the TLS certificate is not trusted: check the clock, any proxy, and alerts.ca_file for a private CA;"
    " verification is never skipped",
)
NO_ANSWER = Diagnosis(
    "网络不通或超时：检查 DNS、防火墙出口与代理（HTTPS_PROXY）",
    "the network does not get there: check DNS, outbound firewall and proxy (HTTPS_PROXY)",
)


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An HTTP answer: its status, at most 64 KiB of body, and `Retry-After` in seconds if it gave one."""

    status: int
    text: str
    retry_after_s: float | None


class _AsItIs(urllib.request.HTTPErrorProcessor):
    """Hands out every answer. A redirect stays one: following it would carry a secret to an unknown address."""

    def http_response(
        self, request: urllib.request.Request, response: http.client.HTTPResponse
    ) -> http.client.HTTPResponse:
        del request
        return response

    https_response = http_response


def tls_context(ca_file: Path | None = None) -> ssl.SSLContext:
    """The system's authorities, those that `certifi` ships, and `ca_file` for a private one."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigError(f"not a file of CA certificates: {error}", where=str(ca_file)) from error
    return context


def checked_address(address: Secret, name: str) -> Secret:
    """`address` if it is an http(s) URL of printable ASCII. The error quotes no part of it."""
    text = address.reveal()
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # its text would quote the address
        usable = False
    if not usable or not text.isascii() or not text.isprintable() or " " in text or '"' in text:
        raise ConfigError("is not an http(s) address", where=f"{name} address from {address.origin}")
    return address


class _Http(http.client.HTTPConnection):
    """A connection that can be cut. `_create_connection` is the name under which http.client keeps it."""

    def __init__(self, connections: Sockets, host: str, **how: Any) -> None:
        super().__init__(host, **how)
        self._create_connection = connections.connect


class _Https(http.client.HTTPSConnection):
    def __init__(self, connections: Sockets, host: str, **how: Any) -> None:
        super().__init__(host, **how)
        self._create_connection = connections.connect


class _HttpHandler(urllib.request.HTTPHandler):
    def __init__(self, connections: Sockets) -> None:
        super().__init__()
        self._connections = connections

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Http, self._connections), req)


class _HttpsHandler(urllib.request.HTTPSHandler):
    def __init__(self, connections: Sockets, tls: ssl.SSLContext) -> None:
        super().__init__(context=tls)
        self._connections, self._tls = connections, tls

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(partial(_Https, self._connections), req, context=self._tls)


class Wire:
    """Posts bytes, each exchange within `timeout_s` as a whole. One per process is enough; safe for several threads."""

    def __init__(self, *, timeout_s: float = 10.0, ca_file: Path | None = None) -> None:
        self.timeout_s = timeout_s
        self.tls = tls_context(ca_file)

    def post(self, url: str, body: bytes, headers: dict[str, str], *secrets: Secret) -> HttpReply | Retry:
        """The answer, whatever its status, or `Retry` when there was none."""
        host = urlsplit(url).hostname or ""
        request = urllib.request.Request(url, data=body, headers=headers, method="POST")  # noqa: S310 - checked_address

        def exchange(connections: Sockets) -> HttpReply:
            handlers: list[urllib.request.BaseHandler] = [
                _HttpHandler(connections), _HttpsHandler(connections, self.tls), _AsItIs(),
            ]  # fmt: skip
            if is_this_machine(host):
                handlers.append(urllib.request.ProxyHandler({}))
            with urllib.request.build_opener(*handlers).open(request, timeout=self.timeout_s) as response:
                return _reply(response)

        try:
            reply, connected = within(self.timeout_s, exchange)
        except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError) as error:
            # The cause is dropped on purpose: its text may quote the address.
            return self._no_answer(host, error, secrets)
        if reply is None:
            return Retry(reason=f"{host}: no end within {self.timeout_s:g} s", doubtful=connected, diagnosis=NO_ANSWER)
        return reply

    def _no_answer(self, host: str, error: Exception, secrets: tuple[Secret, ...]) -> Retry:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ssl.SSLCertVerificationError):
            problem = mask(f"{host}: {cause.verify_message}", *secrets)
            return Retry(reason=problem, after_s=300.0, diagnosis=NOT_TRUSTED)
        if isinstance(cause, socket.gaierror):
            return Retry(reason=f"{host}: no such host", diagnosis=NO_ANSWER)
        if isinstance(cause, ConnectionRefusedError):
            return Retry(reason=f"{host}: connection refused", diagnosis=NO_ANSWER)
        if isinstance(cause, TimeoutError):
            # While connecting urllib wraps it; bare, it came while waiting for the answer.
            doubtful = not isinstance(error, urllib.error.URLError)
            return Retry(
                reason=f"{host}: no answer within {self.timeout_s:g} s", doubtful=doubtful, diagnosis=NO_ANSWER
            )
        return Retry(reason=f"{host}: {type(cause).__name__}", doubtful=True, diagnosis=NO_ANSWER)


def _reply(response: http.client.HTTPResponse) -> HttpReply:
    chunks: list[bytes] = []
    size = 0
    while size < LONGEST_ANSWER and (chunk := response.read1(LONGEST_ANSWER - size)):
        chunks.append(chunk)
        size += len(chunk)
    text = b"".join(chunks).decode("utf-8", "replace")
    return HttpReply(response.status, text, _retry_after(response.headers))


def _retry_after(headers: http.client.HTTPMessage) -> float | None:
    """Seconds from `Retry-After`, as a number or as a date; None for anything else."""
    value = headers.get("Retry-After", "")
    with contextlib.suppress(ValueError):
        return max(0.0, float(value))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    return None
