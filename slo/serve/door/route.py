"""
The long way in: an endpoint that lies where Xinference's own lies, behind its authentication and the rest.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from slo.serve.door.call import CLIENT_CLOSED, ClientGone
from slo.serve.door.front import Front
from slo.serve.door.gate import FOREIGN, UPLOAD, make_call, read_body
from slo.serve.door.problem import Problem, require_plain, too_large
from slo.serve.door.upload import Upload
from slo.serve.telemetry.routes import as_response


def embeddings_endpoint(front: Front, host: Any) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint. `host` is Xinference's API object: it checks the model's access list, and serves other engines."""

    async def embeddings(request: Request) -> Response:
        if request.scope.get(FOREIGN):
            return await _built_in(host, request)
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
        if answer is None:
            request._body = body
            return await _built_in(host, request)
        front.finish(*answer)
        return as_response(answer[0])

    return embeddings


async def _built_in(host: Any, request: Request) -> Response:
    response: Response = await host.create_embedding(request)
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
