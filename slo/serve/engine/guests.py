"""
Xinference's own engines as our door wants them: sentence_transformers, vllm, flag, llama.cpp, each in its own class.

A guest is the engine itself with three methods more, those by which the door asks ours: whole batches in one call that
bring back plain bytes instead of JSON, a status, and a sign of life while it computes. How texts become vectors stays
its own business, prompts included: what the door does not understand goes to Xinference's own route.

Knows nothing of Xinference but what such a class has; classes are made by `guest_of`, and pickled by value.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from slo.host import offer_to_oom_killer, resident_bytes
from slo.serve.engine.model_process import Leaving, ModelProcess

WARM = ("你好", "预热 warm-up。" * 8)  # two lengths: what a call costs, and what a token costs
PREFIX = "Guest"

logger = logging.getLogger("xinference.slo")


@dataclass(frozen=True)
class EngineCall:
    """One call of the engine: when it began and ended, what it answered, and the tokens of the texts that it read."""

    started_s: float
    answer: dict[str, Any]
    done_s: float
    counted: dict[str, int] = field(default_factory=dict)

    @property
    def took_s(self) -> float:
        return self.done_s - self.started_s


class Guest:
    """Goes before the engine's class among the bases."""

    allow_batch = True
    _leaving = _noting = False
    _dimensions: int | None = None

    def load(self) -> None:
        """As the engine does, then warm it and see what it costs."""
        offer_to_oom_killer()
        self._computing = threading.Lock()
        super().load()  # type: ignore[misc]
        self._one_at_a_time = ThreadPoolExecutor(1, thread_name_prefix="guest")
        self._counted: dict[str, int] = {}
        self._passes = self._tokens = self._texts = 0
        self._infer_s = 0.0
        self._count_tokens()
        self._pass_ms = self._warm()
        gc.collect()
        gc.freeze()  # the engine collects everything once a minute: what is here now will not become garbage
        self._loaded_s = time.monotonic()

    def stop(self) -> None:
        """Finish what is there, take no more."""
        self._leaving = True
        if (threads := self.__dict__.get("_one_at_a_time")) is not None:
            threads.shutdown(wait=True, cancel_futures=True)
        if callable(stop := getattr(super(), "stop", None)):
            stop()

    def _create_embedding(self, sentences: Any, **options: Any) -> Any:
        """The engine's own, one caller at a time: Xinference's route computes on the event loop, the door beside it."""
        with self._computing:
            return super()._create_embedding(sentences, **options)  # type: ignore[misc]

    async def embed_batch(self, texts: list[str]) -> tuple[bytes, list[int], list[int], dict[str, float]]:
        """As our own engine: float32 rows, tokens per text, nothing of what was cut off, ms by stage."""
        if self._leaving:
            raise Leaving("the model is being stopped")
        begun_s = time.perf_counter()
        if (own := self._own_queue()) is not None:
            seen = EngineCall(begun_s, await own(texts, model_uid=""), time.perf_counter())
        else:
            loop = asyncio.get_running_loop()
            seen = await loop.run_in_executor(self._one_at_a_time, self._timed, texts)
        rows = np.asarray([row["embedding"] for row in seen.answer["data"]], dtype="<f4")
        tokens = self._tokens_of(texts, seen)
        self._passes += 1
        self._texts += len(texts)
        self._tokens += sum(tokens)
        self._infer_s += seen.took_s
        stages_ms = {"wait": (seen.started_s - begun_s) * 1000, "infer": seen.took_s * 1000}
        return rows.tobytes(), tokens, [0] * len(texts), stages_ms

    async def engine_status(self) -> dict[str, object]:
        """Its account of itself; cheap, callable at any time."""
        return {
            "engine": str(getattr(self.model_family, "model_engine", "") or type(self).__name__),  # type: ignore[attr-defined]
            "guest": True,
            "fingerprint": self._fingerprint(),
            "dimensions": self._dimensions,
            "max_tokens": int(self.model_family.max_tokens),  # type: ignore[attr-defined]
            "pid": os.getpid(),
            "process": process.to_json() if (process := ModelProcess.own()) else None,
            "rss_bytes": resident_bytes(),
            "cpu_s": time.process_time(),
            "age_s": round(time.monotonic() - self._loaded_s, 1),
            "passes": self._passes,
            "tokens": self._tokens,
            "texts": self._texts,
            "infer_s": self._infer_s,
            "pass_ms": self._pass_ms,
        }

    def _own_queue(self) -> Any:
        """The asynchronous call of an engine that orders its requests itself, as vllm does; None of others."""
        own = getattr(self, "_async_create_embedding", None)
        return own if own is not None and self.__dict__.get("create_embedding") == own else None

    def _timed(self, texts: list[str]) -> EngineCall:
        started_s = time.perf_counter()
        self._counted = {}
        # Several texts at a time are sorted and padded by the engine; a bar per call would only fill the log.
        quiet = {"show_progress_bar": False} if self._shows_bars() else {}
        self._noting = True
        try:
            answer: dict[str, Any] = self._create_embedding(texts, model_uid="", **quiet)
        finally:
            self._noting = False
        return EngineCall(started_s, answer, time.perf_counter(), self._counted)

    def _shows_bars(self) -> bool:
        return "SentenceTransformer" in type(self).__name__ and not getattr(self.model_family, "model_ability", None)  # type: ignore[attr-defined]

    def _count_tokens(self) -> None:
        """Note how many tokens each text has when the engine reads it: it only tells the sum of a call."""
        model = getattr(self, "_model", None)
        read = getattr(model, "tokenize", None)
        if not self._shows_bars() or not callable(read):
            return

        def noting(texts: Sequence[Any], *arguments: Any, **options: Any) -> Any:
            features = read(texts, *arguments, **options)
            mask = features.get("attention_mask")
            if mask is not None and len(mask) == len(texts) and self._noting:
                self._counted.update(zip(map(str, texts), mask.sum(dim=1).tolist(), strict=True))
            return features

        model.tokenize = noting  # type: ignore[union-attr]

    def _tokens_of(self, texts: Sequence[str], seen: EngineCall) -> list[int]:
        """Tokens by text: as noted, else the engine's sum shared out by length, else by length alone."""
        counted, total = seen.counted, int(seen.answer.get("usage", {}).get("total_tokens", 0))
        prompts = [
            str(prompt or "") for prompt in (getattr(getattr(self, "_model", None), "prompts", None) or {}).values()
        ]
        found = [next((counted[p + text] for p in ("", *prompts) if p + text in counted), None) for text in texts]
        if all(count is not None for count in found):
            return [int(count or 0) for count in found]
        size = sum(map(len, texts)) or 1
        total = total if total > 0 else size + 2 * len(texts)
        return [max(1, round(total * len(text) / size)) for text in texts]

    def _warm(self) -> dict[str, float] | None:
        """What a call and a token cost, in ms: of a short and a longer text, each after one that is not counted.

        None where the engine cannot be asked yet, or embeds no plain texts.
        """
        if self._own_queue() is not None or hasattr(self, "wait_for_load"):
            return None
        try:
            return self._measured()
        except Exception:  # whatever an engine of others may raise: it serves all the same, its cost is learnt later
            logger.warning("xinference-slo: %s could not be warmed", type(self).__name__, exc_info=True)
            return None

    def _measured(self) -> dict[str, float]:
        points: list[tuple[int, float]] = []
        for text in WARM:
            runs = [self._timed([text]) for _ in range(3)]
            (tokens,) = self._tokens_of([text], runs[-1])
            self._dimensions = len(runs[-1].answer["data"][0]["embedding"])
            points.append((tokens, min(run.took_s for run in runs[1:]) * 1000))
        (few, short_ms), (many, long_ms) = points
        per_token = max(0.0, (long_ms - short_ms) / max(1, many - few))
        return {"fixed": max(0.0, short_ms - per_token * few), "per_token": per_token}

    def _fingerprint(self) -> str:
        """The same for the same files and settings: a cache of vectors may outlive the process."""
        if (known := self.__dict__.get("_known_fingerprint")) is None:
            directory = Path(self._model_path)  # type: ignore[attr-defined]
            digest = hashlib.sha256(type(self).__name__.encode())
            digest.update(repr(sorted((str(k), str(v)) for k, v in self._kwargs.items())).encode())  # type: ignore[attr-defined]
            for path in sorted(directory.rglob("*")):
                if path.is_file():
                    facts = path.stat()
                    digest.update(f"{path.relative_to(directory)} {facts.st_size} {facts.st_mtime_ns}\0".encode())
            known = self._known_fingerprint = digest.hexdigest()[:16]
        return str(known)


def guest_of(engine: type) -> type:
    """`engine` with the door's methods; the same class for one that has them already."""
    if issubclass(engine, Guest) or hasattr(engine, "embed_batch"):
        return engine
    return type(
        PREFIX + engine.__name__, (Guest, engine), {"__module__": f"{__name__}.made", "__doc__": engine.__doc__}
    )
