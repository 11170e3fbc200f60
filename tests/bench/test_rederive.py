"""A record's verdict is derived again from its own data, and a changed one is refused with what differs."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slo.bench.discrepancy import differing
from slo.bench.load import LoadPlan, load_once
from slo.bench.rederive import rederive
from slo.bench.schedule import parse_arrivals
from slo.bench.session import Session, started
from slo.bench.soak import SoakPlan, soak
from slo.cli.main import cli
from slo.cli.main import run as command
from slo.errors import StoreError
from slo.objective import Objective, Verdict
from slo.record_form import digest_of, packed, unpacked
from slo.records import Run, read_record, run_from_json, save_run
from slo.samples import Sample
from tests.bench.virtual_load import Shape, in_virtual_time, virtual_session
from tests.report.made_runs import run as made_run

Data = dict[str, Any]


def a_load(shape: Shape, *, seconds: float = 20.0, arrivals: str = "poisson", to: Session | None = None) -> Run:
    """`slo load` at 50 requests per second, in virtual time."""
    to = to or virtual_session()
    with pytest.MonkeyPatch.context() as patch:
        in_virtual_time(patch, shape)
        schedule = parse_arrivals(arrivals, rate=50.0, duration_s=seconds, seed=to.seed)
        return load_once(to, LoadPlan(schedule=schedule, warmup_s=2.0))


def stored(run: Run) -> Data:
    """The record as a file holds it."""
    data: Data = json.loads(json.dumps(packed(run.to_json())))
    return data


@pytest.fixture(scope="module")
def record() -> Data:
    """A run that met its objective, with a handful of late requests."""
    data = stored(a_load(Shape(service_ms=9.0, failing=0.005)))
    assert data["verdict"] == "met"
    assert 0 < data["summaries"][-1]["failed"] < 30
    return data


shapes = st.builds(
    Shape,
    service_ms=st.sampled_from([2.0, 12.0, 17.0, 19.0, 30.0]),
    failing=st.sampled_from([0.0, 0.04, 0.3]),
    cached=st.sampled_from([0.0, 0.2]),
    wrong=st.sampled_from([0.0, 0.0, 0.05]),
    seed=st.integers(1, 5),
)
patterns = st.sampled_from(["poisson", "constant", "gamma:0.5", "ramp:10:90", "step:20@3s,70@3s"])


@settings(max_examples=15, deadline=None)
@given(shape=shapes, arrivals=patterns, seconds=st.sampled_from([0.5, 6.0, 15.0]), target=st.sampled_from([0.95, 0.99]))
def test_whatever_a_load_found_follows_from_its_record(
    shape: Shape, arrivals: str, seconds: float, target: float
) -> None:
    to = virtual_session(objective=Objective(target=target), seed=shape.seed)
    run = a_load(shape, seconds=seconds, arrivals=arrivals, to=to)
    found = rederive(stored(run))
    assert found.differences == ()
    assert found.verdict is run.verdict
    assert rederive(json.loads(json.dumps(run.to_json(), allow_nan=True))).sound, "in rows as well as in columns"


@settings(max_examples=60, deadline=None)
@given(
    times=st.lists(st.tuples(*[st.floats(0, 1e5)] * 4), max_size=50),
    outcomes=st.lists(st.sampled_from(["ok", "timeout", "错"]), min_size=50, max_size=50),
    known=st.booleans(),
)
def test_columns_give_back_the_rows(times: list[tuple[float, ...]], outcomes: list[str], known: bool) -> None:
    samples = [
        Sample(moment[0], moment[1], moment[2], outcome, "短", outcome == "ok", moment[3] if known else None)
        for moment, outcome in zip(times, outcomes, strict=False)
    ]
    run = Run(kind="load", started_wall_s=0.0, endpoint="", model="", objective=Objective(), settings={},
              samples=samples, host={})  # fmt: skip
    data = run.to_json()
    assert unpacked(packed(data)) == data
    assert run_from_json(stored(run)).to_json() == data


def test_a_row_takes_few_bytes(record: Data) -> None:
    assert len(json.dumps(record["samples"])) < 14 * record["samples"]["rows"]


def shifted(data: Data) -> None:
    late = next(row for row in data["samples"] if row[3] == "ok" and row[2] - row[0] > 0.03)
    late[2] = round(late[2] - 0.02, 7)


def dropped(data: Data) -> None:
    data["samples"].remove(next(row for row in data["samples"] if row[3] != "ok"))


def cut(data: Data) -> None:
    del data["samples"][-40:]


def another_threshold(data: Data) -> None:
    data["objective"]["threshold_ms"] = 40.0


def another_word(data: Data) -> None:
    data["verdict"] = data["decided"] = data["details"]["conclusion"]["verdict"] = "missed"


def another_class(data: Data) -> None:
    slow = max((row for row in data["samples"] if row[3] == "ok"), key=lambda row: row[2] - row[0])
    slow[4] = "short" if slow[4] == "long" else "long"


CHEATS: list[tuple[Callable[[Data], None], str]] = [
    (dropped, "samples"), (cut, "samples"), (another_threshold, "summaries"), (shifted, "summaries"),
    (another_word, "verdict"), (another_class, "summaries"),
]  # fmt: skip


@pytest.mark.parametrize(("cheat", "place"), CHEATS, ids=[cheat.__name__ for cheat, _ in CHEATS])
@pytest.mark.parametrize("new_digest", [False, True], ids=["", "with a new digest"])
def test_a_changed_record_is_refused_with_what_differs(
    record: Data, cheat: Callable[[Data], None], place: str, new_digest: bool
) -> None:
    data = unpacked(copy.deepcopy(record))
    cheat(data)
    if new_digest:
        data["digest"] = digest_of(data)
    places = {difference.where for difference in rederive(packed(data)).differences}
    assert ("digest" in places) is not new_digest
    assert any(place in found or (place == "samples" and "evidence.sent" in found) for found in places), places


def test_a_dropped_request_is_missed_even_when_all_counts_are_made_to_fit(record: Data) -> None:
    """The seed gives the schedule, and the schedule has one more."""
    run = run_from_json(record)
    run.samples.remove(next(sample for sample in run.samples if not sample.ok))
    details = run.details
    for holder, key in ((details, "sent"), (details["evidence"], "sent"), (details["self_check"]["readings"], "total")):
        holder[key] -= 1
    whole = run.summaries()[-1]
    details["conclusion"] |= {"good": whole.judgement.good, "total": whole.total}
    assert any("by the seed" in d.where or "sent" in d.where for d in rederive(stored(run)).differences)


def test_another_runs_samples_are_not_taken_for_ones_own(record: Data) -> None:
    other = stored(a_load(Shape(service_ms=9.0, failing=0.005, seed=2), to=virtual_session(seed=8)))
    swapped = record | {"samples": other["samples"]}
    places = {d.where for d in rederive(swapped | {"digest": digest_of(unpacked(swapped))}).differences}
    assert any("by the seed" in place for place in places)


def test_a_run_too_long_to_keep_all_samples_is_derived_from_exact_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slo.bench.load.started", lambda session: started(session, keep=100))
    data = stored(a_load(Shape(service_ms=17.0, cached=0.1)))
    assert data["thinned"]
    found = rederive(data)
    assert found.differences == ()
    assert found.samples == 100
    changed = copy.deepcopy(data)
    name = data["summaries"][0]["name"]
    changed["details"]["evidence"]["tallies"][name]["good"] += 20
    assert not rederive(changed | {"digest": digest_of(unpacked(changed))}).sound


def test_a_void_run_stays_void(record: Data) -> None:
    data = copy.deepcopy(record)
    data["details"]["self_check"]["readings"]["cpu_share"] = 0.95
    found = rederive(data)
    assert found.verdict is Verdict.UNPROVEN
    assert any(d.where == "void" for d in found.differences)


def test_a_baseline_follows_from_its_rows() -> None:
    data = stored(made_run("baseline"))
    assert rederive(data).sound
    data["summaries"][0]["p95_ms"] -= 1
    assert [d.where for d in rederive(data).differences] == ["digest", "summaries[0].p95_ms"]


def test_an_old_record_says_what_cannot_be_derived() -> None:
    data = made_run("baseline").to_json() | {"format": 1}
    del data["digest"]
    found = rederive(data)
    assert found.sound
    assert "earlier version" in found.gaps[0]
    data["summaries"][0]["verdict"] = "missed"
    assert not rederive(data).sound


def a_soak(tmp_path: Path, shape: Shape) -> Run:
    with pytest.MonkeyPatch.context() as patch:
        in_virtual_time(patch, shape)
        plan = SoakPlan(id="s", clients=5, duration_s=40.0, slice_s=5.0, started_wall_s=0.0, warmup_s=1.0,
                        file=tmp_path / "s.slices.jsonl")  # fmt: skip
        return soak(virtual_session(), plan, on_slice=lambda _row: None)


def test_a_soak_follows_from_its_slices(tmp_path: Path) -> None:
    run = a_soak(tmp_path, Shape(service_ms=24.0, failing=0.01))
    data = stored(run)
    found = rederive(data)
    assert found.differences == ()
    assert found.verdict is run.verdict
    data["details"]["soak"]["requests"] += 1
    data["details"]["slices"][2]["good"] -= 3
    assert {d.where for d in rederive(data).differences} == {
        "digest", "details.soak.requests", "details.slices[2].good",
    }  # fmt: skip
    lenient = stored(run) | {"objective": {"target": 0.95, "threshold_ms": 300.0, "confidence": 0.95}}
    places = {d.where for d in rederive(lenient | {"digest": digest_of(unpacked(lenient))}).differences}
    assert any("good within 300 ms" in place for place in places)


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Data:
    """`slo capacity --ladder` of a service whose limit is known, in virtual time."""
    folder = tmp_path_factory.mktemp("search")
    with pytest.MonkeyPatch.context() as patch:
        in_virtual_time(patch, Shape(service_ms=14.0))
        patch.chdir(folder)
        patch.setattr("slo.cli.capacity_command.make_session", lambda *_args, **_given: virtual_session())
        patch.setattr("slo.cli.capacity_command._Search.cool_down", lambda _self: None)
        words = ["capacity", "--floor", "20", "--ceiling", "80", "--least", "4s", "--confirm", "20s", "--ladder"]
        assert command(cli, words) in (0, 3)
    _, data = read_record("last:capacity", folder / ".slo")
    return data


def test_a_search_is_carried_out_again_on_its_own_probes(searched: Data) -> None:
    found = rederive(searched)
    assert found.differences == ()
    probes = searched["details"]["searches"]["mix"]["probes"]
    assert len(probes) > 4
    assert {probe["purpose"] for probe in probes} == {"search", "confirm"}


def better(search: Data) -> None:
    search["rate"] = search["best"] = 70.0


def forgotten(search: Data) -> None:
    search["probes"].remove(next(p for p in search["probes"] if p["verdict"] != "met"))


def luckier(search: Data) -> None:
    next(p for p in search["probes"] if p["purpose"] == "search")["good"] -= 2


def confirmed_elsewhere(search: Data) -> None:
    search["probes"][-1]["load"] *= 1.05


@pytest.mark.parametrize("cheat", [better, forgotten, luckier, confirmed_elsewhere])
def test_a_changed_search_is_refused(searched: Data, cheat: Callable[[Data], None]) -> None:
    data = copy.deepcopy(searched)
    cheat(data["details"]["searches"]["mix"])
    data["digest"] = digest_of(unpacked(data))
    assert any("searches.mix" in d.where for d in rederive(data).differences)


def test_what_is_no_record_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a run record"):
        rederive({"format": 2})
    path = save_run(made_run("load"), tmp_path)
    data = json.loads(path.read_text())
    data["samples"]["stay"] = "AAAA" + data["samples"]["stay"]
    with pytest.raises(StoreError, match="not a run record"):
        rederive(data)


def test_the_shortest_account_of_a_difference() -> None:
    assert [d.where for d in differing({"a": [1, {"b": 2.0}]}, {"a": [1, {"b": 3.0}]})] == ["a[1].b"]
    assert not list(differing({"a": 0.1 + 0.2, "b": float("nan")}, {"a": 0.3, "b": None}))
    assert [d.where for d in differing({"a": [1]}, {"a": [1, 2], "b": 0})] == ["a", "b"]
