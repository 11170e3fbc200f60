import random
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from slo.bench.compare import compare
from slo.objective import Objective
from slo.records import Run, run_from_json
from slo.report.table import comparison_report, run_report
from slo.samples import Sample

GOLDEN = Path(__file__).parent.parent / "golden"


def a_run(factor: float, **changes: object) -> Run:
    source, samples, at = random.Random(1), [], 0.0
    for name, ms in (("short", 12.0), ("medium", 20.0), ("long", 30.0)):
        for _ in range(100):
            took = factor * ms * source.uniform(0.9, 1.3) / 1000
            samples.append(Sample(at, at, at + took, "ok", name))
            at += took
    values: dict[str, object] = {
        "kind": "baseline",
        "started_wall_s": 1_700_000_000.0,
        "endpoint": "http://127.0.0.1:9997/v1/embeddings",
        "model": "gte-base-zh",
        "objective": Objective(),
        "settings": {"seed": 1},
        "samples": samples,
        "server": {"model_engine": "openvino", "quantization": "int8", "replica": 1, "stand_in": True},
        "host": {"cpu": "AMD EPYC", "cores": 2, "load_1m": 0.5},
        "id": f"20231114T221320-baseline-{factor:g}",
    }
    return Run(**(values | changes))  # type: ignore[arg-type]


def mixed() -> Run:
    run = a_run(9.0, notes=["6 answers came from a cache"], server={})
    run.samples += [Sample(0, 0, 0.001, "ok", "short", True)] * 6 + [Sample(0, 0, 0.5, "timeout", "short")] * 9
    return run


CASES = {
    "run_met": lambda: run_report(a_run(1.0)),
    "run_missed_failures_cache": lambda: run_report(mixed()),
    "run_unproven": lambda: run_report(Run(**{**vars(a_run(1.0)), "samples": a_run(1.0).samples[:30]})),
    "run_empty": lambda: run_report(a_run(1.0, samples=[], interrupted=True)),
    "compare": lambda: comparison_report(compare(a_run(9.0), a_run(1.0, host={"cpu": "Intel", "cores": 2}))),
}


def text_of(thing: RenderableType) -> str:
    out = StringIO()
    Console(file=out, width=118, force_terminal=False, color_system=None).print(thing)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


@pytest.mark.parametrize("name", CASES)
def test_a_report_looks_as_agreed(name: str) -> None:
    # To agree on a new look: delete the file, copy the text that this test then shows.
    golden = GOLDEN / f"{name}.txt"
    assert text_of(CASES[name]()) == (golden.read_text(encoding="utf-8") if golden.exists() else "")


def test_a_report_needs_nothing_but_the_record() -> None:
    run = a_run(1.0)
    assert text_of(run_report(run_from_json(run.to_json()))) == text_of(run_report(run))


def test_stand_in_weights_are_said_and_real_ones_are_not() -> None:
    assert "stand-in weights: timings are representative, embeddings are not" in text_of(run_report(a_run(1.0)))
    assert "stand-in" not in text_of(run_report(a_run(1.0, server={})))
