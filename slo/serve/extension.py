"""
The API side inside Xinference: `XINFERENCE_EXTENSIONS=slo.serve.extension:create`.

Loaded in every process of the server except the model's own. Everywhere it publishes the engine; in the API process
it also puts our front door before the built-in one. Fails loudly on a Xinference that it was not checked against.
"""

# ruff: noqa: PLC0415 - only the API process may pay for the imports of the front door
from __future__ import annotations

import asyncio
import importlib
import importlib.util
import os
import threading
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import xinference

from slo.logrecords import escape_log_records
from slo.serve.door.environment import load_settings

if TYPE_CHECKING:
    from slo.serve.door.callers import Audit

HOST_VERSION = "4.1.0"


class Extension:
    """The hooks of Xinference's extension API, version 1."""

    name = "slo"
    api_version = 1

    def __init__(self) -> None:
        if xinference.__version__ != HOST_VERSION:
            raise RuntimeError(
                f"xinference-slo was built for Xinference {HOST_VERSION}, this is {xinference.__version__}: "
                "install that version, or unset XINFERENCE_EXTENSIONS to run without"
            )
        escape_log_records()  # for processes that were not forked from one that has
        link_one_at_a_time()
        self.settings = load_settings(os.environ)
        if self.settings.enabled and importlib.util.find_spec("slo.serve.engine.engine"):
            importlib.import_module("slo.serve.engine.engine").publish()

    def worker_metadata(self) -> dict[str, str]:
        """What the worker tells the supervisor of this extension."""
        return {"host_version": HOST_VERSION}

    def filter_worker_resources(self, worker: dict[str, Any], workers: list[dict[str, Any]]) -> list[int]:  # noqa: ARG002
        """All devices: placement is Xinference's business."""
        devices: list[int] = worker["gpu_devices"]
        return devices

    def configure_api(self, context: Any) -> None:
        """Install the front door. `context` is Xinference's `APIExtensionContext`."""
        if not self.settings.enabled:
            return
        from fastapi import Security
        from xinference.api.model_request_logging import ModelRequestLoggingRoute
        from xinference.core.exceptions import ModelNotReadyError

        from slo.serve.door.callers import Callers, DatabaseVersion, RememberedKeys
        from slo.serve.door.replicas import ActorFinder
        from slo.serve.install import install

        _harden_http(self.settings.trusted_proxies)
        service = context.auth_service
        if context.auth_enabled:
            path = getattr(service.db, "_db_path", None)  # another provider's store cannot be watched
            version = DatabaseVersion(path) if path else lambda: None
            service._cache = RememberedKeys(service._cache, time.monotonic, version)

        install(
            context.app,
            context.app.state.api,
            ActorFinder(context.get_supervisor_ref, loading=ModelNotReadyError),
            self.settings,
            secured=[Security(service, scopes=["models:read"])] if context.auth_enabled else None,
            admin=[Security(service, scopes=["admin"])] if context.auth_enabled else None,
            short=not _something_between(context),
            route_class=ModelRequestLoggingRoute,
            callers=Callers(service, time.perf_counter) if context.auth_enabled else None,
            audit=_audit(context.app.state.api) if context.auth_enabled else None,
        )


def link_one_at_a_time() -> None:
    """Let replicas that load at once in one worker make the link to their files in turn.

    Xinference looks whether the link is there and then makes it, in a thread per replica: the second failed to load.
    """
    from xinference.model.llm.cache_manager import LLMCacheManager

    plain, lock = LLMCacheManager.cache_uri, threading.Lock()

    def cache_uri(manager: LLMCacheManager) -> str:
        with lock:
            return str(plain(manager))

    LLMCacheManager.cache_uri = cache_uri


def _harden_http(proxies: Sequence[str]) -> None:
    """Let Xinference serve through our protocol class, and believe these proxies only.

    It uses both names after `configure_api`. With its guard on, the guard's own list of proxies holds.
    """
    from xinference.api import restful_api
    from xinference.api.guard_integration import guard_enabled
    from xinference.core.http_protocol import RequestDeadlineMixin

    from slo.serve.connections import Connections, believed_proxies, most_connections
    from slo.serve.protocol import ServerProtocol, protocol_class

    kept = Connections(lambda s, act: asyncio.get_running_loop().call_later(s, act), most=most_connections())

    def hardened(request_timeout: float) -> type[ServerProtocol]:
        mixin = RequestDeadlineMixin if request_timeout > 0 else None
        return protocol_class(mixin, kept, request_timeout=float(request_timeout))

    plain = restful_api.Config

    def config(*args: Any, **how: Any) -> Any:
        return plain(*args, **(how if guard_enabled() else {**how, "forwarded_allow_ips": believed_proxies(proxies)}))

    restful_api.create_hardened_http_protocol, restful_api.Config = hardened, config


def _audit(host: Any) -> Audit:
    """Xinference's audit log and counters."""
    from xinference.api.oauth2.advanced import audit
    from xinference.core import metrics

    from slo.serve.door.callers import Audit

    return Audit(
        host, audit._get_audit_logger, audit._NODE_NAME, audit._get_service_address, time.perf_counter,
        requests=getattr(metrics, "api_key_requests_total", None),
        seconds=getattr(metrics, "api_key_request_duration_seconds", None),
    )  # fmt: skip


def _something_between(context: Any) -> bool:
    """Is any of what the gate's short way leaves out switched on?"""
    from xinference.api.guard_integration import guard_enabled
    from xinference.constants import (
        XINFERENCE_ENABLE_OTEL,
        XINFERENCE_MODEL_REQUEST_LOG_ENABLED,
        XINFERENCE_TRUSTED_PROXIES,
    )

    allowed_ips = context.app.state.api._allowed_ip_list
    proxies = context.auth_enabled and XINFERENCE_TRUSTED_PROXIES  # whose headers authentication reads by itself
    return bool(proxies or allowed_ips or guard_enabled() or XINFERENCE_ENABLE_OTEL
                or XINFERENCE_MODEL_REQUEST_LOG_ENABLED)  # fmt: skip


def create() -> Extension:
    """The factory named in `XINFERENCE_EXTENSIONS`."""
    return Extension()
