"""Settings from the environment, and an extension that refuses a Xinference it does not know."""

import json

import pytest

from slo.config import Config
from slo.errors import ConfigError
from slo.serve.door.environment import ServeSettings, load_settings
from slo.settings_serve import ServeSection


def test_nothing_set_means_the_defaults() -> None:
    default = ServeSettings.model_validate({"admission": {"deadline": "150ms"}})
    assert load_settings({}) == load_settings({"SLO_SERVE_SETTINGS": " "}) == default
    assert default.thresholds_ms == (150.0,)


def test_what_the_launcher_dumps_is_read_back() -> None:
    section = ServeSection.model_validate({"batch": {"max_tokens": 99}, "admission": {"policy": "queue"}})
    read = load_settings({"SLO_SERVE_SETTINGS": json.dumps(Config(serve=section).serve_settings())})
    assert (read.batch, read.admission.policy) == (section.batch, "queue")


@pytest.mark.parametrize(
    ("settings", "deadline_s", "thresholds_ms"),
    [
        ({}, 0.15, (150,)),
        ({"objective": "p95 <= 120ms"}, 0.12, (120,)),
        ({"objective": "p99 <= 2s", "serve": {"admission": {"deadline": "150ms"}}}, 0.15, (2000,)),
        ({"objective": "p95 <= 80ms", "watch": {"objectives": {"availability": "p99 <= 300ms"}}}, 0.08, (80, 300)),
    ],
)
def test_the_server_learns_every_threshold_and_holds_the_objectives_deadline(
    settings: dict[str, object], deadline_s: float, thresholds_ms: tuple[float, ...]
) -> None:
    config = Config.model_validate(settings)
    read = load_settings({"SLO_SERVE_SETTINGS": json.dumps(config.serve_settings())})
    assert (read.admission.deadline_s, read.thresholds_ms) == (deadline_s, thresholds_ms)


def test_a_server_started_by_hand_takes_the_objective_from_its_variable() -> None:
    read = load_settings({"SLO_OBJECTIVE": "p95 <= 120ms"})
    assert (read.admission.deadline_s, read.thresholds_ms) == (0.12, (120.0,))


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ("{", "SLO_SERVE_SETTINGS"),
        ('{"batch":{"max_tokens":1}}', "SLO_SERVE_SETTINGS.batch.max_tokens"),
        ('{"nope":1}', "SLO_SERVE_SETTINGS.nope"),
        ("[]", "SLO_SERVE_SETTINGS"),
    ],
)
def test_a_bad_setting_is_named(raw: str, where: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"SLO_SERVE_SETTINGS": raw})
    assert caught.value.where == where
