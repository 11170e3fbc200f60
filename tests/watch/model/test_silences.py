import pytest

from slo.errors import ConfigError
from slo.watch.model.silences import Maintenance, Silence, covering, muted_by, parse_matcher

LABELS = {"alertname": "LatencyBudgetBurn", "severity": "page", "slo": "latency"}


def silence(*matchers: str, starts_s: float = 0.0, ends_s: float = 100.0) -> Silence:
    return Silence(id="s", matchers=tuple(map(parse_matcher, matchers)), starts_s=starts_s, ends_s=ends_s,
                   author="Han Meimei", comment="load test")  # fmt: skip


@pytest.mark.parametrize(
    ("matchers", "muted"),
    [
        pytest.param(["severity=page"], True, id="equal"),
        pytest.param(["severity!=page"], False, id="not equal"),
        pytest.param(["alertname=~.*BudgetBurn"], True, id="expression"),
        pytest.param(["alertname=~Budget"], False, id="an expression matches the whole value"),
        pytest.param(["alertname!~Latency.*"], False, id="negated expression"),
        pytest.param(["severity=page", "slo=availability"], False, id="all must agree"),
        pytest.param(['slo="latency"'], True, id="quoted"),
        pytest.param(["host="], True, id="a missing label is empty"),
    ],
)
def test_matchers_work_as_in_alertmanager(matchers: list[str], muted: bool) -> None:
    assert (muted_by([silence(*matchers)], LABELS, 50) is not None) is muted


def test_a_silence_holds_from_its_start_to_before_its_end() -> None:
    quiet = silence("severity=page", starts_s=10, ends_s=20)
    assert [quiet.mutes(LABELS, now_s) for now_s in (9, 10, 19, 20)] == [False, True, True, False]


@pytest.mark.parametrize("text", ["severity", "=page", "a=~(", "1x=2"])
def test_what_is_no_matcher_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_matcher(text)


def test_a_silence_needs_matchers_an_author_a_comment_and_a_length() -> None:
    matcher = (parse_matcher("a=b"),)
    for changes in ({"matchers": ()}, {"author": " "}, {"comment": ""}, {"ends_s": 0.0}):
        with pytest.raises(ConfigError):
            Silence(**{"id": "s", "matchers": matcher, "starts_s": 0.0, "ends_s": 1.0, "author": "a", "comment": "c",
                       **changes})  # type: ignore[arg-type]  # fmt: skip


def test_maintenance_excuses_a_minute_that_it_only_touches() -> None:
    window = Maintenance(id="m", starts_s=90, ends_s=150, reason="weights", author="a")
    assert [covering([window], start_s, start_s + 60) is not None for start_s in (0, 60, 120, 180)] == [
        False, True, True, False,
    ]  # fmt: skip


@pytest.mark.parametrize("changes", [{"reason": ""}, {"author": " "}, {"ends_s": 0.0}])
def test_maintenance_needs_a_reason_an_author_and_a_length(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        Maintenance(**{"id": "m", "starts_s": 0.0, "ends_s": 1.0, "reason": "r", "author": "a", **changes})  # type: ignore[arg-type]
