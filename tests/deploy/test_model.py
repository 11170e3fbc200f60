"""A model passes only if its vectors are what its files promise and related texts are closer than unrelated ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from rich.console import Console

from slo.client import EmbeddingsClient
from slo.clock import ManualClock
from slo.config import Config
from slo.deploy import model as stage
from slo.deploy.job import LaunchJob, Progress
from slo.deploy.machine import this_machine
from slo.deploy.model import PROBES, WARMUP, Verified, first_verdict, samples_for, verify
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import BadRequest, Refused, RequestError, RequestTimeout, ServerFault, Unreachable, VerifyError
from slo.objective import Objective, Verdict
from tests.deploy.fake_api import FakeApi
from tests.deploy.test_relaunch import PLAN
from tests.stub_server import Reply, StubServer

Embed = Callable[[str], list[float]]
GOOD = Verified(dimension=128, related=0.9, unrelated=0.1)
URL = "http://127.0.0.1:1"


def sensible(text: str) -> list[float]:
    """Unit vectors by shared characters."""
    counts = [0.0] * 64
    for character in text:
        counts[ord(character) % 64] += 1.0
    length = math.hypot(*counts)
    return [value / length for value in counts]


def random_weights(text: str) -> list[float]:
    """As a BERT without training: all texts alike, but for the characters that they share."""
    values = [0.5 + value for value in sensible(text)]
    length = math.hypot(*values)
    return [value / length for value in values]


def upside_down(text: str) -> list[float]:
    """All texts alike, except that every second one of a triple is the odd one out."""
    related = {"今天的天气好不好", "忘记登录密码怎么重置", "这家餐厅的饭菜味道很好"}
    return [0.0, 1.0, *[0.0] * 62] if text in related else [1.0, 0.0, *[0.0] * 62]


@pytest.fixture
def client_of() -> Iterator[Callable[[Embed], EmbeddingsClient]]:
    opened: list[StubServer | EmbeddingsClient] = []

    def make(embed: Embed) -> EmbeddingsClient:
        def reply(_: int, texts: list[str]) -> Reply:
            rows = [{"index": i, "embedding": embed(text)} for i, text in enumerate(texts)]
            return Reply(body={"data": rows, "usage": {"total_tokens": len(texts)}})

        stub = StubServer(script=reply)
        stub.__enter__()
        opened.append(stub)
        client = EmbeddingsClient(stub.endpoint, "gte")
        opened.append(client)
        return client

    yield make
    for each in reversed(opened):
        each.__exit__(None, None, None)


def test_a_sensible_model_passes(client_of: Callable[[Embed], EmbeddingsClient]) -> None:
    seen = verify(client_of(sensible), dimension=64, normalizes=True, language=("zh",))
    assert seen.related > seen.unrelated


@pytest.mark.parametrize(
    ("embed", "dimension", "words"),
    [
        pytest.param(sensible, 768, "wrong dimension: vectors of 64 numbers", id="wrong dimension"),
        pytest.param(lambda text: [2 * v for v in sensible(text)], 64, r"length 2\.0", id="not normalised"),
        pytest.param(lambda _: [0.0] * 64, 64, r"length 0\.0", id="zeros"),
        pytest.param(upside_down, 64, "hardly closer", id="related texts further apart"),
        pytest.param(lambda _: [1.0, *[0.0] * 63], 64, "hardly closer", id="the same vector for everything"),
        pytest.param(random_weights, 64, r"hardly closer \(0\.9", id="random weights"),
    ],
)
def test_a_wrong_answer_is_named(
    client_of: Callable[[Embed], EmbeddingsClient], embed: Embed, dimension: int, words: str
) -> None:
    with pytest.raises(VerifyError, match=words):
        verify(client_of(embed), dimension=dimension, normalizes=True, language=("zh",))


def test_length_does_not_matter_to_a_model_that_does_not_normalise(
    client_of: Callable[[Embed], EmbeddingsClient],
) -> None:
    double: Embed = lambda text: [2 * v for v in sensible(text)]  # noqa: E731
    assert verify(client_of(double), dimension=64, normalizes=False, language=("en",)).dimension == 64


@pytest.mark.parametrize(("language", "samples"), [(("zh", "en"), "zh"), (("en",), "en"), (("de",), "en"), ((), "en")])
def test_samples_are_in_a_language_of_the_model(language: tuple[str, ...], samples: str) -> None:
    assert samples_for(language) == samples


def test_the_first_verdict_can_be_met_and_counts_no_warm_up(client_of: Callable[[Embed], EmbeddingsClient]) -> None:
    asked: list[str] = []

    def embed(text: str) -> list[float]:
        asked.append(text)
        return sensible(text)

    first = first_verdict(client_of(embed), Objective(threshold_ms=10_000), dimension=64)
    assert first.judgement.verdict is Verdict.MET, "60 clean samples prove it; 50 could not"
    assert first.total == PROBES
    assert len(asked) == PROBES + WARMUP == len(set(asked))


def job_of(folder: Path) -> LaunchJob:
    config = Config.model_validate({"state_dir": folder / "state", "server": {"log": folder / "log"}})
    with (folder / "said").open("w", encoding="utf-8") as said:
        progress = Progress(Console(file=said, width=200))
    progress.say = lambda *_, **__: None  # type: ignore[method-assign]
    progress.busy = lambda *_: None  # type: ignore[method-assign]
    return LaunchJob(config=config, progress=progress, clock=ManualClock(), machine=this_machine(), undo=ExitStack())


def verified(job: LaunchJob, api: FakeApi, bad: list[RequestError], monkeypatch: pytest.MonkeyPatch) -> Verified:
    """The verdict when the first answers are `bad` and the next ones good."""

    def answer(*_: object, **__: object) -> Verified:
        if bad:
            raise bad.pop(0)
        return GOOD

    class Client:
        model = "m"

    monkeypatch.setattr(stage, "verify", answer)
    files: Any = type("Files", (), {"dimension": 128, "normalizes": True})
    return stage._verified(job, cast("XinferenceApi", api), cast("Any", Client()), files, PLAN)


@pytest.mark.parametrize("error", [BadRequest, ServerFault, RequestTimeout, Unreachable])
def test_one_bad_answer_undoes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[RequestError]
) -> None:
    job = job_of(tmp_path)
    job.changed = True
    api = FakeApi(cast("ManualClock", job.clock), "READY")
    assert verified(job, api, [error("HTTP 404: no such model", url=URL)], monkeypatch) == GOOD
    assert api.orders == []


def test_an_answer_that_stays_bad_is_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)
    job.changed = True
    api = FakeApi(cast("ManualClock", job.clock), "READY")
    with pytest.raises(BadRequest):
        verified(job, api, [BadRequest("no", url=URL) for _ in range(1000)], monkeypatch)


def test_a_server_full_of_users_requests_is_waited_for_and_never_relaunched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path)
    api = FakeApi(cast("ManualClock", job.clock), "READY")
    assert verified(job, api, [Refused("busy", url=URL) for _ in range(300)], monkeypatch) == GOOD
    assert api.orders == []
