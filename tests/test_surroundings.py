"""What a service meets around it: no user name, Latin-1 terminals, locked files, other users, secrets, old advice."""

from __future__ import annotations

import os
import re
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import click
import pytest

from slo.cli.main import cli
from slo.config import Config
from slo.deploy.keeper_link import quiet_environment
from slo.deploy.launch_plan import server_environment, without_secrets
from slo.errors import StoreError
from slo.files import private_folder, write_atomically
from slo.host import user_name
from slo.watch.delivery.outbox_store import OutboxStore
from slo.watch.history.store import Store

ROOT = Path(__file__).parents[1]


def test_without_an_entry_in_passwd_there_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown() -> str:
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr("getpass.getuser", unknown)
    assert user_name() == str(os.getuid())


def slo(arguments: list[str], coding: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command of ours on a terminal with that character set."""
    environment = {**os.environ, "PYTHONIOENCODING": coding, "PYTHONUTF8": "0", **variables}
    command = [sys.executable, "-m", "slo", *arguments]
    return subprocess.run(command, check=False, capture_output=True, env=environment, cwd=ROOT)


@pytest.mark.parametrize("coding", ["latin-1", "ascii", "gb2312"])
@pytest.mark.parametrize("command", [["--help"], ["doctor"], ["validate"]])
def test_a_terminal_that_lacks_our_characters_gets_no_traceback(
    tmp_path: Path, coding: str, command: list[str]
) -> None:
    done = slo(command, coding, SLO_STATE_DIR=str(tmp_path))
    assert b"Traceback" not in done.stderr
    assert b"UnicodeEncodeError" not in done.stderr + done.stdout
    assert done.returncode in (0, 2)


def test_an_error_with_chinese_is_told_in_latin_1(tmp_path: Path) -> None:
    done = slo(["check", "--config", str(tmp_path / "没有.yaml")], "latin-1")
    assert done.returncode == 2
    assert b"Traceback" not in done.stderr
    assert rb"\u6ca1" in done.stderr


@pytest.mark.parametrize("kind", ["history", "outbox"])
def test_a_locked_file_is_not_to_be_moved_away(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slo.watch.history.schema.BUSY_S", 0.05)
    path = tmp_path / f"{kind}.db"
    if kind == "history":
        Store(path).close()
    else:
        OutboxStore(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(StoreError) as caught:
            if kind == "history":
                Store(path)
            else:
                store = OutboxStore(path)
                store._db.execute("PRAGMA busy_timeout = 50")
                with store.transaction():
                    pass
    finally:
        holder.close()
    assert "locked" in caught.value.message
    assert "try again" in (caught.value.hint or "")
    assert "move" not in (caught.value.hint or "")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_state_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    write_atomically(tmp_path / "state" / "runs" / "a.json", "{}")
    Store(tmp_path / "other" / "history.db").close()
    OutboxStore(tmp_path / "third" / "outbox.db")
    assert {mode(tmp_path / name) for name in ("state", "state/runs", "other", "third")} == {0o700}


def test_a_folder_that_is_there_stays_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    private_folder(tmp_path / "open" / "inner")
    assert mode(tmp_path / "open") == 0o755
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        private_folder(tmp_path / "file")


SECRETS = {
    "SLO_API_KEY": "a", "SLO_ADMIN_PASSWORD": "b", "SLO_DINGTALK_URL": "c", "SLO_FEISHU_SECRET": "d",
    "SLO_SMTP_PASSWORD": "e", "SLO_CHANNEL_ONCALL_URL": "f", "SLO_WEBHOOK_URL": "g",
}  # fmt: skip


def test_the_server_and_its_keeper_know_no_secrets_of_alerts() -> None:
    environ = {**SECRETS, "PATH": "/bin"}
    assert without_secrets(environ) == {"PATH": "/bin"}
    settings = {"auth": False, "extension": False}
    assert not SECRETS.keys() & server_environment(Config(), settings, environ).keys()
    kept = quiet_environment(environ)
    assert kept == {"SLO_API_KEY": "a", "SLO_ADMIN_PASSWORD": "b", "PATH": "/bin"}  # with these it launches anew


def _commands(group: click.Group, context: click.Context) -> set[str]:
    found: set[str] = set()
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.add(name)
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}" for inner in _commands(command, context)}
    return found


def test_every_command_that_a_text_names_exists() -> None:
    known = _commands(cli, click.Context(cli))
    groups = {name.split()[0] for name in known if " " in name}
    texts = [
        *(ROOT / "slo").rglob("*.py"),
        *(ROOT / "docs").glob("*.md"),
        *ROOT.glob("*.md"),
        ROOT / "configs/slo.yaml",
    ]
    unknown: list[str] = []
    for path in texts:
        for first, second in re.findall(
            r"`slo ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?[^`]*`", path.read_text(encoding="utf-8")
        ):
            named = f"{first} {second}" if first in groups and second else first
            if named not in known:
                unknown.append(f"{path.relative_to(ROOT)}: slo {named}")
    assert not unknown
