"""Secrets are made once, readable by their owner alone, and never printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from slo.deploy.auth import describe, given_account, own_account
from slo.deploy.xinference_api import XinferenceApi, base_url
from slo.errors import ConfigError, Unreachable
from slo.http import ApiKey

EVERYWHERE = "0.0.0.0"  # noqa: S104 - nothing is bound here


def test_the_account_is_made_once_and_kept_private(tmp_path: Path) -> None:
    first = own_account(tmp_path)
    file = tmp_path / "admin.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert own_account(tmp_path).password == first.password
    assert len(first.password) >= 24
    assert first.password not in repr(first)


def test_an_account_that_others_can_read_is_refused(tmp_path: Path) -> None:
    own_account(tmp_path)
    (tmp_path / "admin.json").chmod(0o644)
    with pytest.raises(ConfigError, match="readable by others"):
        own_account(tmp_path)


def test_an_account_for_a_foreign_server_comes_whole_or_not_at_all() -> None:
    assert given_account({}) is None
    account = given_account({"SLO_ADMIN_USER": "root", "SLO_ADMIN_PASSWORD": "s3cret"})
    assert account is not None
    assert (account.username, account.password) == ("root", "s3cret")
    with pytest.raises(ConfigError, match="only one of"):
        given_account({"SLO_ADMIN_USER": "root"})


@pytest.mark.parametrize("endpoint", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/embeddings"])
def test_management_starts_from_the_bare_address(endpoint: str) -> None:
    assert base_url(endpoint) == "http://h:1"


def test_a_silent_address_has_no_workers_and_every_other_call_says_so() -> None:
    api = XinferenceApi("http://127.0.0.1:1")
    assert api.workers() is None
    with pytest.raises(Unreachable, match="nobody answers"):
        api.models()
    api.close()


@pytest.mark.parametrize(
    ("asks", "endpoint", "text"),
    [
        pytest.param(False, "http://127.0.0.1:9997", "this machine only, no authentication", id="loopback"),
        pytest.param(False, "http://10.0.0.5:9997", "anybody who can reach it: no authentication", id="open network"),
        pytest.param(True, "http://10.0.0.5:9997", "with an API key; ours is from a file", id="with a key"),
    ],
)
def test_the_summary_says_who_may_use_the_server(asks: bool, endpoint: str, text: str) -> None:
    assert describe(asks, ApiKey("secret", "a file"), endpoint) == text
