"""
The ASGI side of the front door: headers and body in, reply out.

Two ways lead in. The *route* (`embeddings_endpoint`) lies where Xinference's own lies, behind its authentication,
audit, IP list, CORS and request log. Each of these costs time even when it is switched off: together about 0.6 ms per
request, most of it in `BaseHTTPMiddleware`. So when none of them has anything to do (`short`), the middleware `Gate`
answers at once; a request that any of them would treat (an `Origin` header) still takes the long way. With
authentication the gate answers those whose API key is good for the model (`callers`), and notes them for the audit;
all others take the long way.

`Gate` is there in any case, since it notes the instants at which a request's headers and its last byte reached us.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slo.serve.door.call import CLIENT_CLOSED, Call, ClientGone, RequestTrace, Upload
from slo.serve.door.callers import Audit, Caller, Callers, LongWay
from slo.serve.door.front import Front
from slo.serve.door.problem import Problem, require_plain, too_large
from slo.serve.door.responses import Reply, as_response
from slo.serve.telemetry.telemetry import Telemetry

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PATH = "/v1/embeddings"
UPLOAD = "slo.upload"
PASSED_ON = "slo.passed_on"
OWN_TRAFFIC = {b"probe": "probe", b"bench": "bench"}  # what the toolkit's own requests say in X-SLO-Source


class Gate:
    """ASGI middleware: notes the arrival, and with `short` answers embeddings itself."""

    def __init__(
        self, app: App, *, front: Front, telemetry: Telemetry, short: bool,
        callers: Callers | None = None, audit: Audit | None = None,
    ) -> None:  # fmt: skip
        """`callers` and `audit` are for a server with authentication."""
        self._app = app
        self._front = front
        self._telemetry = telemetry
        self._short = short
        self._callers = callers
        self._audit = audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            upload = scope[UPLOAD] = Upload(receive, self._telemetry.now, self._front.bodies)
            try:
                await self._http(scope, upload, send)
            finally:
                upload.close()
        else:
            await self._app(scope, receive, send)

    async def _http(self, scope: Scope, upload: Upload, send: Send) -> None:
        if self._short and scope["path"] == PATH and scope["method"] == "POST":
            headers = dict(scope["headers"])
            caller = None if self._callers is None else self._callers.of(scope)
            if b"origin" not in headers and (self._callers is None or caller is not None):
                await self._answer(scope, headers, upload, send, caller)
                return
        await self._app(scope, upload, send)

    async def _answer(
        self, scope: Scope, headers: dict[bytes, bytes], upload: Upload, send: Send, caller: Caller | None
    ) -> None:
        identity, body = request_id(headers), b""
        try:
            body = await read_body(upload, headers, self._front)
            permit = None if caller is None else caller.permit
            answer = await self._front.answer(make_call(body, upload, headers, permit))
        except LongWay:
            await self._app(scope, replayed(body, upload), send)
            return
        except Problem as problem:
            answer = self._front.unread(problem, upload.received_s)
        except ClientGone:
            self._note(caller, CLIENT_CLOSED, identity)
            return
        except Exception:
            self._note(caller, 500, identity)
            raise
        reply, trace = answer
        if reply is None:
            scope[PASSED_ON] = trace
            await self._app(scope, replayed(body, upload), send)
            return
        self._front.finish(reply, trace)  # before: how fast the client reads is not ours
        self._note(caller, reply.status, identity)
        await write(reply, identity, send)

    def _note(self, caller: Caller | None, status: int, identity: bytes) -> None:
        if caller is not None and self._audit is not None:
            self._audit.note(caller, status, identity.decode("latin-1"))


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], front: Front) -> bytes:
    """The whole body. Raises `ClientGone`, or `Problem`: 415 for a packed one, 413 for one that is too long, 429 for
    one that is too much beside the others. They are raised before anything is read if the headers tell.
    """
    require_plain(headers.get(b"content-encoding", b"").decode("latin-1"))
    length = headers.get(b"content-length")
    checked = False  # a body beyond our limit is read if a model of another engine runs here
    chunks: list[bytes] = []
    size = int(length) if length is not None and length.isdigit() else 0
    if size > front.max_body:
        checked = await _may_exceed(front)
    elif front.bodies.refuses(size, more=size):
        raise front.crowded()
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            front.broken_off()
            raise ClientGone
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > front.max_body and not checked:
            checked = await _may_exceed(front)
        if not checked and front.bodies.refuses(size):
            raise front.crowded()
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        chunks.append(chunk)


async def _may_exceed(front: Front) -> bool:
    if not await front.may_exceed():
        raise too_large(front.max_body)
    return True


def make_call(
    body: bytes, upload: Upload, headers: dict[bytes, bytes], permit: Callable[[str], None] | None = None
) -> Call:
    """The call with the headers that matter here."""

    async def gone() -> None:
        while (await upload())["type"] != "http.disconnect":
            pass

    deadline, class_ = headers.get(b"x-slo-deadline-ms"), headers.get(b"x-slo-class")
    source = headers.get(b"x-slo-source")
    return Call(
        body=body,
        arrived_s=upload.received_s,
        upload_s=upload.took_s,
        deadline_ms=None if deadline is None else deadline.decode("latin-1"),
        class_=None if class_ is None else class_.decode("latin-1").lower(),
        source=OWN_TRAFFIC.get(source, "") if source else "",
        gone=gone,
        permit=permit,
        fresh=b"no-cache" in headers.get(b"cache-control", b""),
    )


def replayed(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body read already, then what comes after it."""
    pending = [body]

    async def again() -> Message:
        if pending:
            return {"type": "http.request", "body": pending.pop(), "more_body": False}
        return await receive()

    return again


def request_id(headers: dict[bytes, bytes]) -> bytes:
    """The client's own, if it is printable and short as Xinference wants it, else a new one."""
    given = headers.get(b"request-id") or headers.get(b"x-request-id") or b""
    return (
        given
        if 0 < len(given) <= 128 and given.isascii() and given.decode().isprintable()
        else uuid.uuid4().hex.encode()
    )


async def write(reply: Reply, identity: bytes, send: Send) -> None:
    """Hand the reply to the server."""
    headers = [
        (b"content-type", reply.content_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        (b"x-request-id", identity),
        (b"vary", b"Origin"),  # an answer to a page of another origin says so, by the long way
    ]
    headers.extend([(name.encode(), value.encode("latin-1")) for name, value in reply.headers.items()])
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def embeddings_endpoint(front: Front, host: Any) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint. `host` is Xinference's API object: it checks the model's access list, and serves other engines."""

    async def embeddings(request: Request) -> Response:
        passed_on: RequestTrace | None = request.scope.get(PASSED_ON)
        if passed_on is not None:
            return await _built_in(front, passed_on, host, request)
        headers = dict(request.scope["headers"])
        upload: Upload = request.scope[UPLOAD]

        def permit(model: str) -> None:
            host._check_model_access(request, model, "embedding")

        try:
            body = await _body(request, headers, front)
            answer = await front.answer(make_call(body, upload, headers, permit))
        except Problem as problem:
            answer = front.unread(problem, upload.received_s)
        except ClientGone:
            return Response(status_code=CLIENT_CLOSED)
        reply, trace = answer
        if reply is None:
            request._body = body
            return await _built_in(front, trace, host, request)
        front.finish(reply, trace)
        return as_response(reply)

    return embeddings


async def _built_in(front: Front, trace: RequestTrace, host: Any, request: Request) -> Response:
    response: Response = await front.passed_on(trace, lambda: host.create_embedding(request))
    return response


async def _body(request: Request, headers: dict[bytes, bytes], front: Front) -> bytes:
    """The body, which authentication may have read already."""
    if hasattr(request, "_body"):
        body: bytes = await request.body()
        require_plain(headers.get(b"content-encoding", b"").decode("latin-1"))
        if len(body) > front.max_body and not await front.may_exceed():
            raise too_large(front.max_body)
        if len(body) <= front.max_body and front.bodies.refuses(len(body)):
            raise front.crowded()
        return body
    return await read_body(request.receive, headers, front)
