"""From a model directory to a runtime: convert, quantise and judge on the first start, find all of it on the next."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import openvino as ov

from slo.cgroups import usable_cores
from slo.model_store import recipe
from slo.serve.engine.artefacts import Artefacts
from slo.serve.engine.calibration import CHINESE_SAMPLE, calibration_texts, held_out_texts
from slo.serve.engine.fidelity import Fidelity, Vectors, compare
from slo.serve.engine.model_files import read_model
from slo.serve.engine.openvino_forward import (
    OpenVinoForward,
    core,
    cpu_kind,
    int8_instructions,
    supported_precisions,
)
from slo.serve.engine.packing import Pass
from slo.serve.engine.precision import Choice, Precision, choose
from slo.serve.engine.progress import Progress, silent
from slo.serve.engine.runtime import Runtime
from slo.serve.engine.tokens import TextTokenizer, save_tokenizer

DEFAULT_PASS_TOKENS = 160
GPU_PASS_TOKENS = 2048  # mask and scores grow with its square
GRAPH = "graph.xml"


@dataclass(frozen=True)
class Loaded:
    """A runtime and how it came about. `hint` is the arithmetic of what is not int8."""

    runtime: Runtime
    tokenizer: TextTokenizer
    choice: Choice
    hint: str
    threads: int
    device: str
    artefacts: Artefacts  # held for as long as the model is served: not pruned meanwhile
    fingerprint: str  # the same for the same weights, tokenizer, recipe and precision


class Workshop:
    """Makes and finds the graphs of one model. Slow work happens once; `progress` hears of it."""

    def __init__(self, directory: Path, cache: Path, *, progress: Progress = silent, may_make: bool = True) -> None:
        self.files = read_model(directory)
        self.artefacts = Artefacts(self.files.directory, cache, *recipe(), may_make=may_make)
        self.progress = progress
        self._reference: Vectors | None = None
        self._tokenizer: TextTokenizer | None = None

    def tokenizer(self) -> TextTokenizer:
        if self._tokenizer is None:
            folder = self.artefacts.folder("tokenizer", lambda new: save_tokenizer(self.files, new / "tokenizer.json"))
            self._tokenizer = TextTokenizer(folder / "tokenizer.json", self.files)
        return self._tokenizer

    def fp32_graph(self) -> Path:
        def make(folder: Path) -> None:
            from slo.serve.engine.convert import convert  # noqa: PLC0415 - brings torch
            from slo.serve.engine.reference import require_agreement  # noqa: PLC0415

            self.progress("converting", 0.0)
            ov.save_model(convert(self.files), folder / GRAPH, compress_to_fp16=False)
            self.progress("comparing with the original", 0.5)
            fp32 = self.runtime(folder / GRAPH, "f32", threads=cores(), pass_tokens=DEFAULT_PASS_TOKENS, keep=False)
            require_agreement(self.files, fp32)
            self.progress("converting", 1.0)

        return self.artefacts.folder("fp32", make) / GRAPH

    def int8_graph(self) -> Path:
        """Quantise by the fastest recipe that passes the gate, else by the last."""
        fp32 = self.fp32_graph()

        def make(folder: Path) -> None:
            from slo.serve.engine.quantize import RECIPES, quantize  # noqa: PLC0415 - brings nncf and torch

            for way in RECIPES:
                quantised = quantize(core().read_model(fp32), self._calibration(), way, self.progress)
                ov.save_model(quantised, folder / GRAPH, compress_to_fp16=False)
                if self._compare(folder / GRAPH, supported_precisions()["int8"]).passes:
                    return

        return self.artefacts.folder("int8", make) / GRAPH

    def graph(self, precision: Precision) -> Path:
        return self.int8_graph() if precision == "int8" else self.fp32_graph()

    def fidelity(self, precision: Precision) -> Fidelity:
        """Measured once per kind of CPU, then read."""
        hint = supported_precisions()[precision]
        graph = self.graph(precision)

        def make() -> dict[str, float]:
            return self._compare(graph, hint).to_json()

        found = self.artefacts.document(f"fidelity-{precision}-{hint}-{cpu_kind()}", make)
        return Fidelity(**{**found, "texts": int(found["texts"])})  # type: ignore[arg-type]

    def no_gain(self, precision: Precision) -> str:
        """Why `precision` is not faster than fp32 on this CPU, empty if it is. Timed where that is in doubt, once."""
        if precision != "int8" or int8_instructions():
            return ""
        took_ms = self.artefacts.document(f"pass-ms-{cpu_kind()}", self._pass_ms)
        if took_ms["int8"] < took_ms["fp32"]:
            return ""
        return f"int8 takes {took_ms['int8']:.1f} ms for a full pass, fp32 {took_ms['fp32']:.1f} ms"

    def choose(self, precision: str) -> Choice:
        """The precision to serve with, its graph made: minutes the first time."""
        choice = choose(precision, supported=supported_precisions(), measure=self.fidelity, no_gain=self.no_gain)
        self.tokenizer()
        self.graph(choice.precision)
        return choice

    def runtime(self, graph: Path, hint: str, *, threads: int, pass_tokens: int, keep: bool = True) -> Runtime:
        """`keep` stores compiled kernels for the next start."""
        compiled = self.artefacts.compiled if keep else None
        forward = OpenVinoForward(graph, hint=hint, threads=threads, compiled=compiled)
        return Runtime(self.files, self.tokenizer(), forward, pass_tokens=pass_tokens)

    def _pass_ms(self) -> dict[str, float]:
        """Milliseconds of a full pass by precision: the median of nine, after one that compiles."""
        found: dict[str, float] = {}
        for precision in ("int8", "fp32"):
            graph, hint = self.graph(precision), supported_precisions()[precision]
            runtime = self.runtime(graph, hint, threads=cores(), pass_tokens=DEFAULT_PASS_TOKENS, keep=False)
            packed = runtime.prepare(self.held_out()).passes[0]
            runtime.infer(packed)
            found[precision] = statistics.median(_timed_ms(runtime, packed) for _ in range(9))
        return found

    def _compare(self, graph: Path, hint: str) -> Fidelity:
        if self._reference is None:
            self.progress("comparing with fp32", 0.0)
            self._reference = self._vectors(self.fp32_graph(), "f32")
        candidate = self._vectors(graph, hint)
        self.progress("comparing with fp32", 1.0)
        return compare(self._reference, candidate)

    def _vectors(self, graph: Path, hint: str) -> Vectors:
        runtime = self.runtime(graph, hint, threads=cores(), pass_tokens=512, keep=False)
        return runtime.embed(self.held_out())

    def held_out(self) -> list[str]:
        """The texts that the gate judges by."""
        return held_out_texts(english=self._english())

    def _calibration(self) -> Sequence[Pass]:
        unused = Runtime(self.files, self.tokenizer(), _no_forward, pass_tokens=384)
        return unused.prepare(calibration_texts(english=self._english())).passes

    def _english(self) -> bool:
        return self.tokenizer().unknown_share(CHINESE_SAMPLE) > 0.1


def load(
    directory: Path,
    cache: Path,
    *,
    precision: str = "auto",
    device: str = "cpu",
    threads: int | None = None,
    pass_tokens: int | None = None,
    progress: Progress = silent,
    may_make: bool = True,
) -> Loaded:
    """Bring a model up, warm: every shape that it will meet has been run.

    Raises ModelSourceError or QuantizeError, whose message says when sentence_transformers is the way out; NotMade
    when work is missing and `may_make` is False.
    """
    workshop = Workshop(directory, cache, progress=progress, may_make=may_make or device != "cpu")
    if device != "cpu":
        return _load_torch(workshop, precision, device, pass_tokens or GPU_PASS_TOKENS)
    choice = workshop.choose(precision)
    hint = supported_precisions()[choice.precision]
    threads = threads or cores()
    graph = workshop.graph(choice.precision)
    runtime = workshop.runtime(graph, hint, threads=threads, pass_tokens=pass_tokens or DEFAULT_PASS_TOKENS)
    progress("warming up", 0.0)
    runtime.warm_up()
    progress("warming up", 1.0)
    fingerprint = f"{workshop.artefacts.hash[:16]}-{choice.precision}-{hint}"
    return Loaded(runtime, workshop.tokenizer(), choice, hint, threads, "cpu", workshop.artefacts, fingerprint)


def cores() -> int:
    """The cores that this process may use."""
    return usable_cores()


def _timed_ms(runtime: Runtime, packed: Pass) -> float:
    begun_s = time.perf_counter()
    runtime.infer(packed)
    return (time.perf_counter() - begun_s) * 1000


def _no_forward(packed: Pass) -> Vectors:
    raise AssertionError(f"{packed.tokens} tokens were to be packed, not run")


def _load_torch(workshop: Workshop, request: str, device: str, pass_tokens: int) -> Loaded:
    """Half precision on a GPU, judged against fp32 on the same device; any named precision as it was asked for."""
    from slo.serve.engine.reference import require_agreement  # noqa: PLC0415 - brings torch
    from slo.serve.engine.torch_forward import TorchForward  # noqa: PLC0415

    def runtime(precision: Precision) -> Runtime:
        forward = TorchForward(workshop.files, device=device, precision=precision)
        return Runtime(workshop.files, workshop.tokenizer(), forward, pass_tokens=pass_tokens)

    def measure(precision: Precision) -> Fidelity:
        texts = workshop.held_out()
        return compare(runtime("fp32").embed(texts), runtime(precision).embed(texts))

    def proof() -> dict[str, float]:
        require_agreement(workshop.files, runtime("fp32"))
        return {"agrees": 1.0}

    workshop.artefacts.document("agreement", proof)
    choice = choose(request, supported=("fp16", "bf16"), measure=measure)
    ready = runtime(choice.precision)
    ready.warm_up()
    fingerprint = f"{workshop.artefacts.hash[:16]}-{choice.precision}-{device.partition(':')[0]}"
    return Loaded(ready, workshop.tokenizer(), choice, choice.precision, 0, device, workshop.artefacts, fingerprint)
