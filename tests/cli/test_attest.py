"""`slo verify` and `slo attest` as they are typed, with a real ssh-keygen and a real load."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slo.cli.attest import sign, signer
from slo.cli.main import cli, run
from slo.record_form import digest_of, packed, unpacked
from slo.records import save_run
from tests.report.made_runs import run as made_run
from tests.stub_server import StubServer

Read = Callable[[], str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def record() -> Path:
    return save_run(made_run("baseline"), Path(".slo"))


def key_of(who: str) -> Path:
    """A new key; its public half becomes the file `allowed`."""
    path = Path(f"{who}_key")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", who, "-f", str(path)], check=True)
    kind, public, _ = Path(f"{path}.pub").read_text().split()
    Path("allowed").write_text(f"{who} {kind} {public}\n")
    return path


def test_a_measured_record_holds_and_a_changed_one_does_not(capfd: pytest.CaptureFixture[str]) -> None:
    with StubServer() as server:
        to = ("--endpoint", server.endpoint, "--model", "stub")
        assert run(cli, ["load", "--rate", "40", "--duration", "2s", "--warmup", "0.2s", *to]) in (0, 3)
        assert run(cli, ["baseline", "--requests", "20", "--warmup", "1", *to]) in (0, 1, 3)
        assert run(cli, ["stress", "--concurrency", "2", "--duration", "1s", "--warmup", "0s", *to]) in (0, 1, 3)
    capfd.readouterr()
    assert run(cli, ["verify", "last:load", "last:baseline", "last:stress"]) == 0
    assert capfd.readouterr().out.count(": holds: ") == 3
    (path,) = Path(".slo/runs").glob("*-load-*.json")
    data = unpacked(json.loads(path.read_text()))
    data["samples"].pop(7)
    path.write_text(json.dumps(packed(data | {"digest": digest_of(data)})))
    assert run(cli, ["verify", "last:baseline", "last:load"]) == 1
    out = capfd.readouterr().out
    assert "REFUSED" in out
    sent = data["details"]["sent"]
    assert f"details.evidence.sent: the record says {sent}, its data give {sent - 1}" in out


def test_verify_as_json_names_every_difference(record: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = json.loads(record.read_text()) | {"verdict": "missed"}
    record.write_text(json.dumps(data))
    assert run(cli, ["verify", str(record), "--json"]) == 1
    (row,) = json.loads(capfd.readouterr().out)
    assert not row["sound"]
    assert {"where": "verdict", "recorded": "missed", "derived": row["verdict"]} in row["differences"]


def test_an_old_record_cannot_be_told(record: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data: dict[str, Any] = unpacked(json.loads(record.read_text())) | {"format": 1}
    del data["digest"]
    record.write_text(json.dumps(data))
    assert run(cli, ["verify", str(record)]) == 3
    assert "not derived: written by an earlier version" in capfd.readouterr().out
    assert run(cli, ["attest", str(record), "--key", str(key_of("ann"))]) == 3


def test_a_signature_tells_who_vouches_for_exactly_this_file(record: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["attest", str(record), "--key", str(key_of("ann@example.org"))]) == 0
    signed = ["verify", str(record), "--signature", f"{record}.sig", "--allowed-signers", "allowed"]
    assert run(cli, signed) == 0
    assert "signed by ann@example.org" in capfd.readouterr().out
    # A forger who derives everything anew is stopped by the signature alone.
    forged = made_run("baseline", 80.0)
    forged.id = record.stem
    save_run(forged, Path(".slo"))
    assert run(cli, ["verify", str(record)]) == 0
    assert run(cli, signed) == 1
    assert "not one of the allowed signers" in capfd.readouterr().out


def test_only_a_signature_by_an_allowed_key_for_this_purpose_counts(record: Path) -> None:
    signature = sign(record, key_of("ann"))
    assert signer(record, signature, Path("allowed")) == "ann"
    stranger = key_of("eve")
    assert signer(record, signature, Path("allowed")) is None
    signature.unlink()
    command = ["ssh-keygen", "-Y", "sign", "-n", "git", "-f", str(stranger), str(record)]
    subprocess.run(command, check=True, capture_output=True)
    assert signer(record, signature, Path("allowed")) is None


@pytest.mark.parametrize(
    "words",
    [
        ("verify",), ("verify", "nothing"), ("verify", "last", "--signature", "x"), ("attest", "last"),
        ("attest", "last", "--key", "absent"), ("verify", "last", "last", "--signature", "x", "--allowed-signers", "y"),
        ("verify", "last", "--signature", "x", "--allowed-signers", "y"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_exit_code_2(record: Path, words: tuple[str, ...]) -> None:
    assert run(cli, list(words)) == 2


def test_a_damaged_key_is_one_sentence(record: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("odd").write_text("no key")
    Path("odd").chmod(0o600)
    assert run(cli, ["attest", str(record), "--key", "odd"]) == 2
    assert "odd: cannot sign" in capfd.readouterr().err


def test_a_record_that_does_not_hold_is_not_signed(record: Path) -> None:
    record.write_text(json.dumps(json.loads(record.read_text()) | {"verdict": "missed"}))
    assert run(cli, ["attest", str(record), "--key", str(key_of("ann"))]) == 1
    assert not Path(f"{record}.sig").exists()
