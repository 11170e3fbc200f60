"""
A record signed with an SSH key: OpenSSH's own signatures (`ssh-keygen -Y`), in a file beside the record.

`ssh-keygen` is on every machine from which people log in to others, people have a key already, and who may sign is a
list in the form of `allowed_signers` (ssh-keygen(1)): one line with a name and a public key. The namespace keeps a
signature that was made for something else, a git commit say, from counting here.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from slo.errors import ConfigError, EnvironmentProblem

NAMESPACE = "xinference-slo"
SUFFIX = ".sig"
TIMEOUT_S = 120.0  # somebody may have to type a passphrase, or to touch a token


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
