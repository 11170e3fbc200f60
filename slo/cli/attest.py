"""
`slo verify` and `slo attest`: does a record's verdict follow from its data, and who vouches for it.

A record is signed with an SSH key: OpenSSH's own signatures (`ssh-keygen -Y`), in a file beside the record.
`ssh-keygen` is on every machine from which people log in to others, people have a key already, and who may sign is a
list in the form of `allowed_signers` (ssh-keygen(1)): one line with a name and a public key. The namespace keeps a
signature that was made for something else, a git commit say, from counting here.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import click

from slo.bench.discrepancy import Rederived
from slo.bench.rederive import MOST, rederive
from slo.cli.options import Context, config_option, context, json_option
from slo.errors import ConfigError, EnvironmentProblem
from slo.records import read_record

NAMESPACE = "xinference-slo"
SUFFIX = ".sig"
TIMEOUT_S = 120.0  # somebody may have to type a passphrase, or to touch a token
FILE = click.Path(path_type=Path, dir_okay=False)


def sign(record: Path, key: Path) -> Path:
    """Sign `record`; the file of the signature, `RECORD.sig`. With a public `key`, the SSH agent signs.

    Raises `ConfigError` when the key cannot sign.
    """
    if not key.is_file():
        raise ConfigError("no such key", where=str(key), hint="ssh-keygen -t ed25519 makes one")
    signature = record.with_name(record.name + SUFFIX)
    signature.unlink(missing_ok=True)  # ssh-keygen would ask
    done = _keygen("sign", "-n", NAMESPACE, "-f", str(key), str(record))
    if done.returncode or not signature.is_file():
        raise ConfigError(f"cannot sign: {_said(done)}", where=str(key))
    return signature


def signer(record: Path, signature: Path, allowed: Path) -> str | None:
    """Who of those in the file `allowed` signed exactly this `record`; None if none of them did.

    Raises `ConfigError` when one of the files is missing.
    """
    for path in (record, signature, allowed):
        if not path.is_file():
            raise ConfigError("no such file", where=str(path))
    found = _keygen("find-principals", "-f", str(allowed), "-s", str(signature))
    for name in found.stdout.decode(errors="replace").split("\n") if not found.returncode else ():
        who = name.strip()
        with record.open("rb") as content:
            checked = ("-n", NAMESPACE, "-f", str(allowed), "-I", who, "-s", str(signature))
            if who and _keygen("verify", *checked, content=content.fileno()).returncode == 0:
                return who
    return None


def _keygen(action: str, *arguments: str, content: int | None = None) -> subprocess.CompletedProcess[bytes]:
    command = ["ssh-keygen", "-Y", action, *arguments]
    try:
        return subprocess.run(command, check=False, capture_output=True, stdin=content, timeout=TIMEOUT_S)
    except FileNotFoundError as error:
        raise EnvironmentProblem("ssh-keygen is not installed", hint="apt-get install openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise EnvironmentProblem(f"ssh-keygen did not answer in {TIMEOUT_S:g} s") from error


def _said(done: subprocess.CompletedProcess[bytes]) -> str:
    return (done.stderr or done.stdout).decode(errors="replace").strip().replace("\n", "; ") or "no reason given"


@click.command()
@click.argument("records", nargs=-1, required=True, metavar="RECORD...")
@click.option("--signature", type=FILE, help="Also check this signature of the record (needs --allowed-signers).")
@click.option("--allowed-signers", type=FILE, help="Whose signatures count: lines of a name and a public SSH key.")
@config_option
@json_option
def verify(
    records: tuple[str, ...], signature: Path | None, allowed_signers: Path | None, config_path: Path | None,
    as_json: bool,
) -> int:  # fmt: skip
    """Derive every verdict of a record again from its own data, offline, and refuse it if anything differs.

    RECORD is a file, an id or its beginning, `last`, or `last:KIND`. The digest and the derivation find what was
    changed by accident or in one place; against somebody who derives everything anew only a signature helps.

    \b
    Exit codes: 0 all of it follows, whatever the verdict is; 1 something differs, or the signature is not good;
    2 no such record or file; 3 a record of an earlier version, which holds too little to tell.
    """
    if (signature is None) != (allowed_signers is None):
        raise click.UsageError("--signature and --allowed-signers go together")
    if signature is not None and len(records) > 1:
        raise click.UsageError("a signature belongs to one record: give one")
    ctx = context(config_path, as_json=as_json)
    codes, rows = [], []
    for reference in records:
        path, data = read_record(reference, ctx.config.state_dir)
        found = rederive(data, source=str(path))
        row: dict[str, Any] = {"file": str(path), **found.to_json()}
        sound = found.sound
        if signature is not None and allowed_signers is not None:
            row["signed_by"] = signer(path, signature, allowed_signers)
            sound = sound and row["signed_by"] is not None
        codes.append(1 if not sound else 3 if data["format"] == 1 else 0)
        rows.append(row)
        if not ctx.json:
            _show(path, found, row, code=codes[-1])
    if ctx.json:
        ctx.emit_json(rows)
    return 1 if 1 in codes else max(codes)


@click.command()
@click.argument("record")
@click.option("--key", type=FILE, required=True, help="Private SSH key; a public one has the SSH agent sign.")
@config_option
def attest(record: str, key: Path, config_path: Path | None) -> int:
    """Sign a record with an SSH key; only one that `slo verify` accepts.

    \b
    Writes RECORD.sig (`ssh-keygen -Y sign`, namespace xinference-slo). Others check it with
      slo verify RECORD --signature RECORD.sig --allowed-signers FILE
    Exit codes: 0 signed, 1 the record does not hold, 2 no such record or key, 3 too old to tell.
    """
    ctx = context(config_path)
    path, data = read_record(record, ctx.config.state_dir)
    found = rederive(data, source=str(path))
    if not found.sound or data["format"] == 1:
        _show(path, found, {}, code=1 if not found.sound else 3)
        return 1 if not found.sound else 3
    signature = sign(path, key)
    _say(ctx, f"{signature} signs {found.id}: {found.verdict.value}, {found.objective} (namespace {NAMESPACE})")
    return 0


def _show(path: Path, found: Rederived, row: dict[str, Any], *, code: int) -> None:
    head = {0: "holds", 1: "REFUSED", 3: "cannot be told"}[code]
    click.echo(f"{path}: {head}: {found.verdict.value}, {found.objective}, {found.kind}, {found.samples} samples")
    for difference in found.differences[:MOST]:
        click.echo(f"  {difference}")
    if len(found.differences) > MOST:
        click.echo(f"  and {len(found.differences) - MOST} more")
    if "signed_by" in row:
        who = row["signed_by"]
        click.echo(f"  signed by {who}" if who else "  the signature is not one of the allowed signers over this file")
    for gap in found.gaps:
        click.echo(f"  not derived: {gap}")


def _say(ctx: Context, text: str) -> None:
    ctx.out.print(text, highlight=False, soft_wrap=True, markup=False)
