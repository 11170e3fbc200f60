"""
Who may use the server: nobody has to say on loopback, everybody elsewhere.

Passwords and keys lie in files that only their owner can read, and are never printed or logged.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from slo.addresses import is_loopback
from slo.config import Config
from slo.deploy.xinference_api import Account, XinferenceApi
from slo.errors import ConfigError, Unauthorized
from slo.files import write_atomically
from slo.http import ApiKey, find_api_key

ADMIN_FILE = "admin.json"
KEY_FILE = "api_key"


def wants_auth(config: Config) -> bool:
    """Must our server ask for credentials? `auto`: unless it listens on loopback alone."""
    setting = config.server.auth
    return setting == "on" or (setting == "auto" and not is_loopback(config.server.host))


def own_account(state_dir: Path) -> Account:
    """The administrator of our own server, created with a random password on first use."""
    path = state_dir / ADMIN_FILE
    if not path.exists():
        content = {"username": "slo-admin", "password": secrets.token_urlsafe(24)}
        write_atomically(path, json.dumps(content) + "\n", mode=0o600)
    if path.stat().st_mode & 0o077:
        raise ConfigError("readable by others", where=str(path), hint=f"chmod 600 {path}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return Account(username=data["username"], password=data["password"], origin=str(path))
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError("not an account", where=str(path), hint="remove it and the server's auth.db") from error


def describe(asks: bool, key: ApiKey | None, endpoint: str) -> str:
    """Who may use the server at `endpoint`, in a few words for the summary."""
    if asks and key:
        return f"with an API key; ours is from {key.origin}"
    local = is_loopback(urlsplit(endpoint).hostname or "")
    return "this machine only, no authentication" if local else "anybody who can reach it: no authentication"


def given_account(environ: Mapping[str, str] | None = None) -> Account | None:
    """The administrator named by `SLO_ADMIN_USER` and `SLO_ADMIN_PASSWORD`, for a server that someone else runs."""
    environ = os.environ if environ is None else environ
    user, password = environ.get("SLO_ADMIN_USER", ""), environ.get("SLO_ADMIN_PASSWORD", "")
    if not user and not password:
        return None
    if not user or not password:
        raise ConfigError("only one of SLO_ADMIN_USER and SLO_ADMIN_PASSWORD is set", hint="set both, or neither")
    return Account(username=user, password=password, origin="SLO_ADMIN_USER")


def ensure_api_key(api: XinferenceApi, config: Config) -> ApiKey:
    """A key that the server accepts: the one given, the one stored, or a new one, stored for our other commands."""
    stored = config.client.api_key_file or config.state_dir / KEY_FILE
    key = find_api_key(stored)
    if key is not None:
        if _accepted(api.endpoint, key):
            return key
        if not key.origin.startswith(str(config.state_dir)):
            raise Unauthorized(
                f"{api.endpoint}: the {key} is not one of this server's",
                url=api.endpoint,
                hint="unset it to have a new key created",
            )
    # Names must be unique within a server, and an older key of ours may still be in use.
    name = f"slo-{socket.gethostname()[:40]}-{secrets.token_hex(4)}"
    value = api.create_key(name)
    path = config.state_dir / KEY_FILE
    write_atomically(path, value + "\n", mode=0o600)
    return ApiKey(value, str(path))


def _accepted(endpoint: str, key: ApiKey) -> bool:
    api = XinferenceApi(endpoint, key=key)
    try:
        api.models()
    except Unauthorized:
        return False
    finally:
        api.close()
    return True
