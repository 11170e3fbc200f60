"""The first account of Xinference's own authentication, in a folder that was there already, open to all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slo.deploy.entry import create_admin


def test_the_database_of_accounts_is_out_of_other_peoples_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "xinference" / "auth"
    folder.mkdir(parents=True, mode=0o755)
    monkeypatch.setattr("xinference.constants.XINFERENCE_AUTH_DB_PATH", str(folder / "auth.db"))
    account = tmp_path / "admin.json"
    account.write_text(json.dumps({"username": "slo-admin", "password": "long enough 1"}), encoding="utf-8")
    create_admin(account)
    assert (folder / "auth.db").is_file()
    assert folder.stat().st_mode & 0o777 == 0o700
