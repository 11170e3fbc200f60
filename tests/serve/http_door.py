"""The front door on a real uvicorn server at port 0, with a fake engine behind it and a fake host around it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Request
from starlette.responses import PlainTextResponse, Response

from slo.serve.door.environment import ServeSettings
from slo.serve.install import install
from slo.settings_serve import ServeSection
from tests.serve.fakes import FakeFinder

KEY = "secret-key"


@dataclass
class Host:
    """What the front door needs of Xinference's API object."""

    _port: int
    denied: set[str] = field(default_factory=set)
    built_in: list[bytes] = field(default_factory=list)

    async def create_embedding(self, request: Request) -> Response:
        self.built_in.append(await request.body())
        return PlainTextResponse("built in")

    def _check_model_access(self, request: Request, model: str, kind: str) -> None:
        assert kind == "embedding"
        if model in self.denied:
            raise HTTPException(403, "no access")


@dataclass
class Door:
    """A running server."""

    url: str
    host: Host
    http: aiohttp.ClientSession

    async def embed(self, data: Any, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Status, JSON body and headers (names in lower case) of one request."""
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.http.post(f"{self.url}/v1/embeddings", json=data, headers=names) as response:
            return (
                response.status,
                await response.json(content_type=None),
                {k.lower(): v for k, v in response.headers.items()},
            )

    async def post(self, body: bytes, **headers: str) -> tuple[int, bytes]:
        """Status and raw body."""
        async with self.http.post(f"{self.url}/v1/embeddings", data=body, headers=headers) as response:
            return response.status, await response.read()

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        """Status and JSON."""
        async with self.http.get(f"{self.url}{path}", headers=headers) as response:
            return response.status, await response.json(content_type=None)


def _told(settings: ServeSection | None) -> ServeSettings:
    """As the launcher hands them over: everything that the section says, and the default objective."""
    return ServeSettings.model_validate({} if settings is None else settings.model_dump())


async def authenticate(request: Request) -> None:
    """Stands for Xinference's own."""
    if request.headers.get("authorization") != f"Bearer {KEY}":
        raise HTTPException(401, "Could not validate credentials")


@contextlib.asynccontextmanager
async def opened(
    finder: FakeFinder, settings: ServeSection | None = None, *, short: bool = True, auth: bool = False
) -> AsyncIterator[Door]:
    """A server on a free port, closed at the end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host = Host(listener.getsockname()[1])
        app = FastAPI()
        secured = [Depends(authenticate)] if auth else None
        install(app, host, finder, _told(settings), secured=secured, admin=secured, short=short)
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        task = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started:
            await asyncio.sleep(0.005)
            assert not task.done()
        async with aiohttp.ClientSession() as http:
            yield Door(f"http://127.0.0.1:{host._port}", host, http)
        server.should_exit = True
        await task
