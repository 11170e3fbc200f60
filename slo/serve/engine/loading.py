"""From a model directory to a runtime: convert, quantise and judge on the first start, find all of it on the next."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino as ov

from slo.host import give_back, usable_cores
from slo.model_store import recipe
from slo.serve.engine.artefacts import Artefacts, Progress, silent
from slo.serve.engine.calibration import CHINESE_SAMPLE, calibration_texts, held_out_texts
from slo.serve.engine.encoder_files import read_model
from slo.serve.engine.fidelity import Choice, Fidelity, Precision, Vectors, choose, compare
from slo.serve.engine.openvino_forward import (
    OpenVinoForward,
    core,
    cpu_kind,
    int8_instructions,
    supported_precisions,
)
from slo.serve.engine.packing import Pass
from slo.serve.engine.refusals import remembered
from slo.serve.engine.retrieval import Pairs, ndcg
from slo.serve.engine.runtime import Runtime
from slo.serve.engine.tokens import TextTokenizer, save_tokenizer

DEFAULT_PASS_TOKENS = 160
GPU_PASS_TOKENS = 2048  # mask and scores grow with its square
GRAPH = "graph.xml"
RECIPE_NUMBER = "recipe"  # beside the int8 graph: which of the recipes made it
TEXTS_AT_A_TIME = 64


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
        self._retrieved: tuple[Pairs, float] | None = None
        self._judged: Fidelity | None = None  # of the int8 graph, when this workshop has made it
        self._tokenizer: TextTokenizer | None = None

    def tokenizer(self) -> TextTokenizer:
        if self._tokenizer is None:
            folder = self.artefacts.folder("tokenizer", lambda new: save_tokenizer(self.files, new / "tokenizer.json"))
            self._tokenizer = TextTokenizer(folder / "tokenizer.json", self.files)
        return self._tokenizer

    def fp32_graph(self) -> Path:
        def make(folder: Path) -> None:
            from slo.serve.engine.encoder import convert  # noqa: PLC0415 - brings torch
            from slo.serve.engine.reference import require_agreement  # noqa: PLC0415

            self.progress("converting", 0.0)
            ov.save_model(convert(self.files), folder / GRAPH, compress_to_fp16=False)
            self.progress("comparing with the original", 0.5)
            fp32 = self.runtime(folder / GRAPH, "f32", threads=cores(), pass_tokens=DEFAULT_PASS_TOKENS, keep=False)
            require_agreement(self.files, fp32)
            self.progress("converting", 1.0)

        with remembered(self.artefacts):
            return self.artefacts.folder("fp32", make) / GRAPH

    def int8_graph(self) -> Path:
        """Quantise by the fastest recipe that passes the gate, else by the last."""
        return self.artefacts.folder("int8", lambda folder: self._quantise(folder, 0, None)) / GRAPH

    def _quantise(self, folder: Path, first: int, pairs: Pairs | None) -> None:
        """Into `folder`: the graph by the first recipe from number `first` that passes, and that number."""
        from slo.serve.engine.quantisation import RECIPES, quantize  # noqa: PLC0415 - brings nncf and torch

        fp32, hint = self.fp32_graph(), supported_precisions()["int8"]
        for number in range(first, len(RECIPES)):
            quantised = quantize(core().read_model(fp32), self._calibration(), RECIPES[number], self.progress)
            ov.save_model(quantised, folder / GRAPH, compress_to_fp16=False)
            (folder / RECIPE_NUMBER).write_text(str(number), encoding="ascii")
            found = self._judged = self._compare(folder / GRAPH, hint)
            if found.passes and (
                pairs is None
                or Fidelity.from_json({**found.to_json(), **self._retrieve(folder / GRAPH, hint, pairs)}).passes
            ):
                return

    def _quantise_better(self, pairs: Pairs) -> bool:
        """Put a slower recipe's int8 graph in the place of one that finds too little; False if none is left."""
        from slo.serve.engine.quantisation import RECIPES  # noqa: PLC0415 - brings nncf and torch

        number = self.recipe_number()
        if number + 1 >= len(RECIPES):
            return False
        self.artefacts.forget("int8", "fidelity-int8-*", "retrieval-int8-*")
        self.artefacts.folder("int8", lambda folder: self._quantise(folder, number + 1, pairs))
        return True

    def recipe_number(self) -> int:
        """Which recipe made the int8 graph; 0 for one of a version that did not record it."""
        file = self.artefacts.directory / "int8" / RECIPE_NUMBER
        return int(file.read_text(encoding="ascii")) if file.is_file() else 0

    def graph(self, precision: Precision) -> Path:
        return self.int8_graph() if precision == "int8" else self.fp32_graph()

    def fidelity(self, precision: Precision, pairs: Pairs | None = None) -> Fidelity:
        """Measured once per kind of CPU, then read; retrieval when `pairs` are given, and remembered from then on."""
        hint = supported_precisions()[precision]
        graph = self.graph(precision)

        def make() -> dict[str, float]:
            known = self._judged if precision == "int8" else None
            return (known or self._compare(graph, hint)).to_json()

        found = self.artefacts.document(f"fidelity-{precision}-{hint}-{cpu_kind()}", make)
        name = f"retrieval-{precision}-{hint}-{cpu_kind()}"
        if pairs is not None:
            retrieved: dict[str, float] | None = self.artefacts.renewed(name, self._retrieve(graph, hint, pairs))
        else:
            retrieved = self.artefacts.known(name)
        fidelity = Fidelity.from_json({**found, **(retrieved or {})})
        if pairs is not None and precision == "int8" and not fidelity.passes and self._quantise_better(pairs):
            return self.fidelity(precision, pairs)
        return fidelity

    def no_gain(self, precision: Precision) -> str:
        """Why `precision` is not faster than fp32 on this CPU, empty if it is. Timed where that is in doubt, once."""
        if precision != "int8" or int8_instructions():
            return ""
        took_ms = self.artefacts.document(f"pass-ms-{cpu_kind()}", self._pass_ms)
        if took_ms["int8"] < took_ms["fp32"]:
            return ""
        return f"int8 takes {took_ms['int8']:.1f} ms for a full pass, fp32 {took_ms['fp32']:.1f} ms"

    def choose(self, precision: str, pairs: Pairs | None = None) -> Choice:
        """The precision to serve with, its graph made: minutes the first time.

        With `pairs` it must find as much as fp32 among them; later starts without them keep to what was found.
        """
        choice = choose(
            precision,
            supported=supported_precisions(),
            measure=lambda candidate: self.fidelity(candidate, pairs),
            no_gain=self.no_gain,
        )
        self.tokenizer()
        self.graph(choice.precision)
        return choice

    def runtime(
        self, graph: Path, hint: str, *, threads: int, pass_tokens: int, keep: bool = True, streams: int = 1
    ) -> Runtime:
        """`keep` stores compiled kernels for the next start."""
        compiled = self.artefacts.compiled if keep else None
        forward = OpenVinoForward(graph, hint=hint, threads=threads, compiled=compiled, streams=streams)
        return Runtime(self.files, self.tokenizer(), forward, pass_tokens=pass_tokens, streams=streams, fine=True)

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
            self._reference = self._vectors(self.fp32_graph(), "f32", self.held_out())
        candidate = self._vectors(graph, hint, self.held_out())
        self.progress("comparing with fp32", 1.0)
        return compare(self._reference, candidate)

    def _retrieve(self, graph: Path, hint: str, pairs: Pairs) -> dict[str, float]:
        """nDCG@10 over `pairs`, of the graph and of fp32."""
        if self._retrieved is None or self._retrieved[0] is not pairs:
            self._retrieved = (
                pairs,
                ndcg(pairs, self._vectors(self.fp32_graph(), "f32", pairs.texts, "searching in fp32")),
            )
        found = ndcg(pairs, self._vectors(graph, hint, pairs.texts, "searching"))
        return {"pairs": len(pairs.queries), "ndcg": found, "ndcg_fp32": self._retrieved[1]}

    def _vectors(self, graph: Path, hint: str, texts: Sequence[str], stage: str = "") -> Vectors:
        runtime = self.runtime(graph, hint, threads=cores(), pass_tokens=512, keep=False)
        found: list[Vectors] = []
        for start in range(0, len(texts), TEXTS_AT_A_TIME):
            found.append(runtime.embed(texts[start : start + TEXTS_AT_A_TIME]))
            if stage:
                self.progress(stage, min(1.0, (start + TEXTS_AT_A_TIME) / len(texts)))
        return np.concatenate(found)

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
    streams: int = 1,
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
    runtime = workshop.runtime(
        graph, hint, threads=threads, pass_tokens=pass_tokens or DEFAULT_PASS_TOKENS,
        streams=min(streams, threads),
    )  # fmt: skip
    progress("warming up", 0.0)
    runtime.warm_up()
    give_back(".blob", "graph.bin")  # kernels have copies of the weights as they want them
    progress("warming up", 1.0)
    recipe_mark = f".{workshop.recipe_number()}" if choice.precision == "int8" else ""
    fingerprint = f"{workshop.artefacts.hash[:16]}-{choice.precision}{recipe_mark}-{hint}"
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

    with remembered(workshop.artefacts):
        workshop.artefacts.document("agreement", proof)
    choice = choose(request, supported=("fp16", "bf16"), measure=measure)
    ready = runtime(choice.precision)
    ready.warm_up()
    fingerprint = f"{workshop.artefacts.hash[:16]}-{choice.precision}-{device.partition(':')[0]}"
    return Loaded(ready, workshop.tokenizer(), choice, choice.precision, 0, device, workshop.artefacts, fingerprint)
