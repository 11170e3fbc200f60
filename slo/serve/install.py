"""
Puts the front door into the host's app: the embeddings route, our own routes, the gate, and the background work.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI

from slo.serve.connections import set_nodelay
from slo.serve.door.cache import Cache
from slo.serve.door.callers import Audit, Callers
from slo.serve.door.directory import Directory, Finder
from slo.serve.door.environment import ServeSettings
from slo.serve.door.front import Front
from slo.serve.door.gate import PATH, Gate, embeddings_endpoint
from slo.serve.door.request import TokenIds, tiktoken_loader
from slo.serve.door.responses import Delay
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import Edges
from slo.serve.web.board import Board, history_path
from slo.serve.web.control import PATH as CONTROL
from slo.serve.web.control import Control
from slo.serve.web.openapi import described
from slo.serve.web.pages import page_routes
from slo.serve.web.processes import Processes
from slo.serve.web.routes import Routes

logger = logging.getLogger("xinference.slo")  # Xinference's console shows only loggers below its own name
# The first generation is collected after so many net allocations. CPython's 700 costs a walk of the second generation
# every few hundred requests; above 5000 the first alone takes several ms. Vectors and bytes hold no cycles.
GC_THRESHOLDS = (5_000, 20, 50)


def install(
    app: FastAPI, host: Any, finder: Finder, settings: ServeSettings, *, secured: list[Any] | None, short: bool,
    route_class: type[Any] | None = None, admin: list[Any] | None = None,
    callers: Callers | None = None, audit: Audit | None = None,
) -> None:  # fmt: skip
    """Everything. `host` is the API object with `create_embedding`, `_check_model_access` and `_port`.

    `secured` are the dependencies that authenticate a route, `admin` those that ask for an administrator, None without
    authentication; `short` lets the gate answer by itself, with authentication whom `callers` knows, noted by `audit`.
    """
    telemetry = Telemetry(edges=Edges(settings.thresholds_ms))
    cache = Cache(settings.cache.max_size if settings.cache.enabled else 0)
    named = os.environ.get("SLO_MODEL_NAME")
    directory = Directory(finder, settings, cache, telemetry, expected=[named] if named else ())
    delay = Delay(telemetry.now)
    control = Control(settings, directory, cache, delay, time.time)
    front = Front(settings, directory, cache, telemetry, delay, TokenIds(tiktoken_loader()))
    processes = Processes(lambda: directory.lanes)
    routes = Routes(
        settings, directory, cache, telemetry, control, processes, history_path(os.environ).parent
    )  # fmt: skip
    board = Board(settings, directory, cache, telemetry, processes, os.environ)
    # Registered before the host's router is included, so this one wins.
    app.router.add_api_route(
        PATH, embeddings_endpoint(front, host), methods=["POST"], dependencies=secured,
        route_class_override=route_class, include_in_schema=False, response_model=None,
    )  # fmt: skip
    for path, endpoint, is_data in (*routes.table(), *board.table()):
        guards = secured if is_data else None
        app.router.add_api_route(
            path,
            endpoint,
            methods=["GET"],
            dependencies=guards,
            response_model=None,
            **described(path, telemetry.edges.coarse_s),
        )
        app.router.add_api_route(
            path, endpoint, methods=["HEAD"], dependencies=guards, response_model=None, include_in_schema=False
        )
    app.router.add_api_route(
        CONTROL, routes.control(guarded=admin is not None), methods=["POST"], dependencies=admin, response_model=None,
        **described(CONTROL),
    )  # fmt: skip
    app.router.routes.extend(page_routes())
    short = short and (secured is None or callers is not None)
    app.add_middleware(Gate, front=front, telemetry=telemetry, short=short, callers=callers, audit=audit)
    inner = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(application: Any) -> AsyncIterator[Any]:
        async with inner(application) as state:
            if not set_nodelay(host._port):
                logger.warning("xinference-slo: no listener at port %s, answers may wait 40 ms for an ACK", host._port)
            loud_gc, unwatch = tune_gc(), telemetry.watch_gc()
            directory.start()
            routes.start()
            board.start()
            try:
                yield state
            finally:
                await board.close()
                await routes.close()
                await directory.close()
                unwatch()
                loud_gc()

    app.router.lifespan_context = lifespan
    logger.info("xinference-slo: front door installed, %s way", "short" if short else "long")


def tune_gc() -> Callable[[], None]:
    """Keep the start-up heap out of collections, and collect more rarely; the result undoes the latter."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    return lambda: gc.set_threshold(*before)
