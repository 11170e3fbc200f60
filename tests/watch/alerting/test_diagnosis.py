import pytest

from slo.watch.alerting.diagnosis import Evidence, causes, evidence_of

USUAL = Evidence(
    requests=1000,
    stages={"queue": (5.0, 1000), "infer": (20.0, 1000)},
    classes={"short": (500, 500), "long": (490, 500)},
    cpu_steal=0.01,
    cache_hit_ratio=0.4,
    uptime_s=90_000,
)


@pytest.mark.parametrize(
    ("now", "kind", "words"),
    [
        pytest.param(Evidence(requests=1000, stages={"queue": (205.0, 1000), "infer": (30.0, 1000)}),
                     "stage", "queue: +200 ms per request, 95%", id="the stage that grew"),
        pytest.param(Evidence(requests=100, classes={"short": (50, 50), "long": (10, 50)}),
                     "length", "class long: 100% of the bad requests, 50% of the traffic", id="long texts"),
        pytest.param(Evidence(requests=100, replicas={"a": (50, 50), "b": (10, 50)}),
                     "replica", "replica b: 100%", id="one replica"),
        pytest.param(Evidence(requests=100, cpu_steal=0.3), "steal", "take 30% of the CPU", id="noisy neighbours"),
        pytest.param(Evidence(requests=100, uptime_s=20), "cold", "started 20 s ago", id="a cold model"),
        pytest.param(Evidence(requests=100, cache_hit_ratio=0.0), "cache", "0% of requests instead of 40%",
                     id="the cache is off"),
        pytest.param(Evidence(requests=100, outcomes={"refused": 40}), "refused", "40% refused", id="load is shed"),
        pytest.param(Evidence(requests=60, outcomes={"unsent": 57, "unreachable": 3}), "down", "nobody answers",
                     id="nobody answers"),
        pytest.param(Evidence(requests=60, outcomes={"unsent": 57, "server_fault": 3}, uptime_s=20), "failing",
                     "100% with server_fault", id="probes left unsent failed like those before them"),
        pytest.param(Evidence(requests=100, outcomes={"server_fault": 90, "timeout": 1}), "failing",
                     "90% with server_fault", id="requests fail"),
    ],
)  # fmt: skip
def test_the_largest_cause_is_named(now: Evidence, kind: str, words: str) -> None:
    (first, *_) = causes(now, USUAL)
    assert first.kind == kind
    assert words in first.text_en
    assert first.text_zh
    assert 0 < first.weight <= 1


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(USUAL, id="as usual"),
        pytest.param(Evidence(), id="no figures at all"),
        pytest.param(Evidence(requests=1000, stages={"queue": (6.0, 1000), "infer": (21.0, 1000)}), id="two ms more"),
        pytest.param(Evidence(requests=100, classes={"long": (10, 100)}), id="a single class is no suspect"),
        pytest.param(Evidence(requests=100, classes={"short": (25, 50), "long": (25, 50)}), id="all classes alike"),
        pytest.param(Evidence(requests=1000, outcomes={"timeout": 1}), id="one failure in a thousand"),
    ],
)
def test_nobody_is_suspected_without_figures(now: Evidence) -> None:
    assert causes(now, USUAL) == []


def test_evidence_of_minutes_adds_up_and_shares_are_averaged() -> None:
    found = evidence_of([
        {"requests": 10, "classes": {"short": [9, 10]}, "stages": {"infer": [1.0, 10]}, "cpu_steal": 0.2,
         "outcomes": {"timeout": 1}, "uptime_s": 50},
        {"requests": 5, "classes": {"short": [5, 5]}, "stages": {"infer": [0.5, 5]}, "cpu_steal": None,
         "outcomes": {}, "uptime_s": 110},
        {},
    ])  # fmt: skip
    assert found == Evidence(
        requests=15, classes={"short": (14, 15)}, stages={"infer": (1.5, 15)}, outcomes={"timeout": 1},
        cpu_steal=0.2, uptime_s=110,
    )  # fmt: skip
