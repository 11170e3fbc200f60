"""Two hosts are two instances, and a link in a message can be opened where the server can be reached."""

import pytest

from slo.config import Config
from slo.watch.alerting.address import instance_of, page_of, runbook_of, watched


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:9997", "gpu-1:9997"),
        ("http://localhost:9997/v1", "gpu-1:9997"),
        ("http://0.0.0.0:9997", "gpu-1:9997"),
        ("http://10.0.0.7:9997", "10.0.0.7:9997"),
        ("https://embeddings.example", "embeddings.example:443"),
        ("http://[2001:db8::1]:9997", "[2001:db8::1]:9997"),
    ],
)
def test_the_instance_is_host_and_port(endpoint: str, expected: str) -> None:
    assert instance_of(endpoint, "gpu-1") == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "http://127.0.0.1:9997/slo/"),
        ({"server.host": "0.0.0.0", "server.endpoint": "http://127.0.0.1:9997"}, "http://gpu-1:9997/slo/"),  # noqa: S104
        ({"server.endpoint": "http://10.0.0.7:9997/v1"}, "http://10.0.0.7:9997/slo/"),
        ({"alerts.external_url": "https://e.example/slo"}, "https://e.example/slo/"),
    ],
)  # fmt: skip
def test_the_page_is_where_people_reach_it(changes: dict[str, object], expected: str) -> None:
    config = Config().replaced(**changes)
    assert page_of(config, "gpu-1") == expected
    assert runbook_of(config, "gpu-1") == f"{expected}runbook"


def test_a_runbook_of_ones_own_is_linked_instead() -> None:
    assert runbook_of(Config().replaced(**{"watch.notify.runbook": "https://wiki/r"})) == "https://wiki/r"


def test_two_hosts_with_the_same_configuration_are_two_alerts() -> None:
    one, two = (watched(Config(), name) for name in ("gpu-1", "gpu-2"))
    assert one != two
    assert one["model"] == two["model"]
