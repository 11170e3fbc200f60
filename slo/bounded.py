"""
`requests`, with a bound on everything that the other side decides: bytes, unpacked bytes, and the time of it all.

`timeout` of requests is the longest pause between two pieces; here it is the deadline of the whole exchange, from the
request to the last byte, headers included. Answers are asked for uncompressed; one that is compressed anyhow is
unpacked up to the same bound. A proxy from the environment serves for other machines only, and `~/.netrc` for none: it
would replace our key.
"""

from __future__ import annotations

import io
import socket
import time
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from slo.addresses import is_this_machine

MAX_BYTES = 16 * 2**20
CHUNK = 64 * 1024
PLAIN = ("", "identity")


class TooMuch(requests.RequestException):
    """The answer is longer than allowed; the connection is closed."""


class BoundedSession(requests.Session):
    """A session whose answers hold at most `max_bytes`, packed and unpacked. Answers are read when they are returned.

    Every request needs a `timeout` in seconds; it covers the whole exchange.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES) -> None:
        super().__init__()
        self.max_bytes = max_bytes
        self.headers["Accept-Encoding"] = "identity"
        self.auth = _as_it_is
        self._ours: dict[str, bool] = {}  # host → is it this machine?
        for scheme in ("http://", "https://"):
            self.mount(scheme, _Adapter())

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        """As `requests.Session.send`, the body read. Raises `TooMuch` beyond the bound."""
        response = super().send(request, **{**kwargs, "stream": True})
        try:
            response._content = self._body(response)
        except BaseException:
            response.close()
            raise
        return response

    def merge_environment_settings(self, url: Any, *args: Any) -> Any:
        """Without proxies for this machine."""
        settings = super().merge_environment_settings(url, *args)
        if settings["proxies"]:
            host = urlsplit(str(url)).hostname or ""
            if host not in self._ours:
                self._ours[host] = is_this_machine(host)
            if self._ours[host]:
                settings["proxies"] = {}
        return settings

    def _body(self, response: requests.Response) -> bytes:
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and int(announced) > self.max_bytes and response.request.method != "HEAD":
            raise TooMuch(f"{announced} bytes announced, at most {self.max_bytes} are read")
        packing = response.headers.get("Content-Encoding", "identity").strip().lower()
        pieces: list[bytes] = []
        size = 0
        for piece in _unpacked(_pieces(response), packing, self.max_bytes):
            size += len(piece)
            if size > self.max_bytes:
                raise TooMuch(f"more than {self.max_bytes} bytes")
            pieces.append(piece)
        if packing not in PLAIN:
            response.close()  # something may follow
        return b"".join(pieces)


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _pieces(response: requests.Response) -> Iterator[bytes]:
    """The body as it comes, with errors as requests words them."""
    try:
        yield from response.raw.stream(CHUNK, decode_content=False)
    except urllib3.exceptions.ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.ConnectionError(error) from error
    except urllib3.exceptions.SSLError as error:
        raise requests.exceptions.SSLError(error) from error


def _unpacked(pieces: Iterator[bytes], packing: str, limit: int) -> Iterator[bytes]:
    """`pieces` without their content coding, never much more than `limit` at once."""
    if packing in PLAIN:
        yield from pieces
        return
    if packing not in ("gzip", "x-gzip", "deflate"):
        raise requests.exceptions.ContentDecodingError(f"content coding {packing!r}, which was not asked for")
    unpack = zlib.decompressobj(zlib.MAX_WBITS | 32)  # finds out itself whether it is gzip or zlib
    try:
        for piece in pieces:
            yield unpack.decompress(piece, limit + 1)
            if unpack.unconsumed_tail:
                raise TooMuch(f"more than {limit} bytes")
            if unpack.eof:  # what follows would only be collected
                return
    except zlib.error as error:
        raise requests.exceptions.ContentDecodingError(str(error)) from error
    raise requests.exceptions.ContentDecodingError("the packed answer is cut short")


class _Timed(io.RawIOBase):
    """A socket's bytes until `deadline_s`, on the monotonic clock."""

    def __init__(self, sock: socket.socket, deadline_s: float) -> None:
        super().__init__()
        self._sock = sock
        self._deadline_s = deadline_s
        self._raw = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("the exchange takes too long")
        self._sock.settimeout(left_s)
        return self._raw.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


class _Deadline:
    """Mixed into urllib3's connections: the timeout of a request counts from its beginning."""

    timeout: Any
    sock: Any
    response_class: Any
    _deadline_s = float("inf")

    def request(self, *args: Any, **kwargs: Any) -> None:
        self._deadline_s = time.monotonic() + self.timeout if isinstance(self.timeout, int | float) else float("inf")
        super().request(*args, **kwargs)  # type: ignore[misc]

    def getresponse(self) -> Any:
        deadline_s = self._deadline_s
        plain = type(self).response_class

        def timed(sock: socket.socket, *args: Any, **kwargs: Any) -> Any:
            answer = plain(sock, *args, **kwargs)
            if deadline_s != float("inf"):
                answer.fp.close()
                answer.fp = io.BufferedReader(_Timed(sock, deadline_s))
            return answer

        self.response_class = timed
        return super().getresponse()  # type: ignore[misc]


class _Http(_Deadline, HTTPConnection):
    pass


class _Https(_Deadline, HTTPSConnection):
    pass


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _Https


_POOLS = {"http": _HttpPool, "https": _HttpsPool}


class _Adapter(HTTPAdapter):
    """Connections with a deadline, directly or through a proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
