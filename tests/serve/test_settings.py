"""Settings from the environment, and an extension that refuses a Xinference it does not know."""

import json

import pytest

from slo.config import ServeSection
from slo.errors import ConfigError
from slo.serve.settings import load_settings


def test_nothing_set_means_the_defaults() -> None:
    assert load_settings({}) == load_settings({"SLO_SERVE_SETTINGS": " "}) == ServeSection()


def test_what_the_launcher_dumps_is_read_back() -> None:
    section = ServeSection.model_validate({"batch": {"max_tokens": 99}, "admission": {"policy": "queue"}})
    dumped = json.dumps(section.model_dump(mode="json"))
    assert load_settings({"SLO_SERVE_SETTINGS": dumped}) == section


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
