"""
Making the model known to Xinference and running on it, each step only if it is not done already.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from slo.clock import Clock
from slo.deploy.catalogue import STAND_IN_REVISION
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import RegisterError, RequestTimeout, ServerFault, Unreachable
from slo.host import usable_cores
from slo.model_files import STAND_IN_LABEL

OPENVINO = "openvino"
STOCK_ENGINE = "sentence_transformers"
POLL_S = 0.1
SILENCE_LIMIT_S = 10.0
GONE_LIMIT_S = 15.0


@dataclass(frozen=True, kw_only=True)
class ModelPlan:
    """What shall run. Two plans that are equal need no relaunch.

    `name` is Xinference's, `uid` the one that requests ask for. A model that is `builtin` has its description there
    already; with no `directory` Xinference finds its files.
    """

    name: str
    uid: str = ""
    builtin: bool = False
    directory: str
    dimension: int
    max_tokens: int
    language: tuple[str, ...]
    stand_in: bool
    engine: str
    precision: str
    device: str
    replicas: int
    threads: int
    streams: int = 1

    def to_json(self) -> dict[str, Any]:
        """The settings as recorded in `server.json`; those of earlier versions lack what is as it always was."""
        data = {**asdict(self), "language": list(self.language)}
        for key, usual in (("uid", self.name), ("builtin", False)):
            if data[key] == usual:
                del data[key]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ModelPlan | None:
        """The plan that `to_json` recorded; None where there is none, or another version's."""
        data = {"uid": data.get("name", ""), "builtin": False, **data}
        if set(data) != {field.name for field in fields(cls)}:
            return None
        return cls(**{**data, "language": tuple(data["language"])})

    def __post_init__(self) -> None:
        if not self.uid:
            object.__setattr__(self, "uid", self.name)


def description(plan: ModelPlan) -> dict[str, Any]:
    """The registration document. The hub must read huggingface: other specs get no engine (notes, section 3)."""
    return {
        "version": 2,
        "model_name": plan.name,
        "model_description": STAND_IN_LABEL if plan.stand_in else "",
        "dimensions": plan.dimension,
        "max_tokens": plan.max_tokens,
        "language": list(plan.language),
        "model_specs": [
            {
                "model_format": "pytorch",
                "model_hub": "huggingface",
                "model_id": None,
                "model_uri": Path(plan.directory).as_uri(),
                "model_revision": STAND_IN_REVISION if plan.stand_in else None,
                "quantization": "none",
            }
        ],
    }


def same_model(known: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Does the registration `known` describe the same files, dimensions and label as `wanted`?"""
    keys = ("model_name", "model_description", "dimensions", "max_tokens", "language")
    if any(known.get(key) != wanted[key] for key in keys):
        return False
    specs = known.get("model_specs") or [{}]
    spec = wanted["model_specs"][0]
    return all(specs[0].get(key) == spec[key] for key in ("model_uri", "model_revision", "model_format"))


def launch_body(plan: ModelPlan, models_dir: Path) -> dict[str, Any]:
    """The body of `POST /v1/models`. Keys that Xinference does not know go to the engine's constructor."""
    body: dict[str, Any] = {
        "model_uid": plan.uid,
        "model_name": plan.name,
        "model_type": "embedding",
        "model_engine": plan.engine,
        "model_format": "pytorch",
        "quantization": "none",
        "replica": plan.replicas,
        # "auto" takes a graphics card where there is one; null hides them all from the model process
        "n_gpu": None if plan.device == "cpu" else "auto",
        "enable_virtual_env": False,
    }
    if plan.builtin and plan.directory:
        body["model_path"] = plan.directory
    if plan.engine == OPENVINO:
        body |= {
            "device": plan.device,
            "slo_precision": plan.precision,
            "slo_models_dir": str(models_dir),
            "slo_threads": plan.threads,
            "slo_streams": plan.streams,
        }
    elif plan.threads < len(os.sched_getaffinity(0)):
        # Every process would otherwise use all cores that it sees, and they would wait for each other.
        body["envs"] = {"OMP_NUM_THREADS": str(plan.threads), "MKL_NUM_THREADS": str(plan.threads)}
    return body


def threads_per_replica(replicas: int, cores: int | None = None) -> int:
    """Cores that this process may keep busy, shared out evenly; at least one."""
    return max(1, (cores or usable_cores()) // replicas)


def ensure_registered(api: XinferenceApi, plan: ModelPlan) -> str:
    """Register the model unless it is; replace a registration that says something else. Tells which it was.

    A built-in one needs none. To be called while no model of that name runs, or with the registration that the running
    one has.
    """
    if plan.builtin:
        return "built into Xinference"
    wanted = description(plan)
    known = api.registration(plan.name)
    if known is not None and known.get("is_builtin"):
        raise RegisterError(
            f"{plan.name} is the name of a model built into that Xinference, not into the one here",
            hint="set model.name to one of your own, and model.uid to what requests ask for",
        )
    if known is not None and same_model(known, wanted):
        return "known already"
    if known is not None:
        api.unregister(plan.name)
    api.register(json.dumps(wanted, ensure_ascii=False))
    return "registered" if known is None else f"replaced: was {_uri(known)}"


def _uri(known: dict[str, Any]) -> str:
    specs = known.get("model_specs") or [{}]
    return str(specs[0].get("model_uri"))


def wait_ready(
    api: XinferenceApi,
    uid: str,
    *,
    timeout_s: float,
    clock: Clock,
    still_running: Callable[[], None],
    on_progress: Callable[[str], None],
    why: Callable[[], str] = lambda: "",
    step: Callable[[], str] = lambda: "",
) -> int:
    """Return the number of replicas once every one is ready.

    `still_running` raises when waiting has become pointless; `why` is asked for the reason of a failure where the
    server gives none. `step` says how far a slow start is: `timeout_s` counts from its last change, since a model that
    is being converted on a busy machine is late, not lost. Raises `RegisterError` when a replica fails or time is up.
    """
    deadline_s, reached = clock.monotonic() + timeout_s, ""
    silent_since_s: float | None = None
    gone_since_s: float | None = None
    while True:
        still_running()
        try:
            replicas = api.replicas(uid)
            silent_since_s = None
        except (Unreachable, RequestTimeout, ServerFault):
            # A dying server refuses or fails for a moment before it is gone: let `still_running` tell that story.
            silent_since_s = silent_since_s or clock.monotonic()
            if clock.monotonic() - silent_since_s > SILENCE_LIMIT_S:
                raise
            clock.sleep(POLL_S)
            continue
        states = [str(replica.get("status")) for replica in replicas]
        failed = [replica for replica in replicas if replica.get("status") == "ERROR"]
        if failed:
            reason = " ".join(str(failed[0].get("error_message") or why() or "no reason given").split())[:600]
            raise RegisterError(f"{uid}: the launch failed: {reason}", hint="the server's log has the traceback")
        if states and set(states) == {"READY"}:
            return len(states)
        gone_since_s = None if states else gone_since_s or clock.monotonic()
        if gone_since_s is not None and clock.monotonic() - gone_since_s > GONE_LIMIT_S:
            raise RegisterError(
                f"{uid}: the server has given the model up without a reason",
                hint="its log has the reason; launching again starts the model anew",
            )
        if (now_at := step()) != reached:
            deadline_s, reached = clock.monotonic() + timeout_s, now_at
        if clock.monotonic() > deadline_s:
            after = f" of {reached!r}" if reached else ""
            raise RegisterError(
                f"{uid}: not ready after {timeout_s:g} s{after} (replicas: {', '.join(states) or 'none'})",
                hint="raise server.launch_timeout, or look into the server's log",
            )
        on_progress(", ".join(sorted({state.lower() for state in states})) or "starting")
        clock.sleep(POLL_S)
