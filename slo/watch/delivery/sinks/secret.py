"""
Secrets of channels: webhook addresses, signing keys, passwords.

They come from an environment variable or from a file that its owner alone can read, never from the configuration
itself. A `Secret` prints as the place it came from; `mask` takes its value, and the telling parts of an address, out
of any text that others wrote.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, quote, urlsplit

from slo.errors import ConfigError

MASK = "••••"
_SHORTEST_FRAGMENT = 6  # masking shorter pieces of an address would hit ordinary words


class Secret:
    """A value that appears nowhere by accident: not in `repr`, `str`, `format`, a dump or a pickle."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str) -> None:
        self._value = value
        self.origin = origin

    def reveal(self) -> str:
        """The value itself. Call it only where it goes on the wire."""
        return self._value

    def fragments(self) -> tuple[str, ...]:
        """The value and, if it is an address, its path, path segments and query values; longest first."""
        try:
            parts = urlsplit(self._value) if "://" in self._value else None
        except ValueError:
            parts = None
        found = {self._value, quote(self._value, safe="")}
        if parts is not None:
            tail = f"{parts.path}?{parts.query}" if parts.query else parts.path
            found |= {tail, parts.query, parts.username or "", parts.password or ""}
            found |= {value for _, value in parse_qsl(parts.query)}
            found |= set(parts.path.split("/")[-2:])
            found = {text for text in found if len(text) >= _SHORTEST_FRAGMENT}
        return tuple(sorted((text for text in found if text), key=len, reverse=True))

    def __repr__(self) -> str:
        return f"<secret from {self.origin}>"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not to be stored")


def mask(text: str, *secrets: Secret | None) -> str:
    """`text` without any of the secrets."""
    for secret in secrets:
        if secret is not None:
            for fragment in secret.fragments():
                text = text.replace(fragment, MASK)
    return text


def find_secret(variable: str, file: Path | None, environ: Mapping[str, str]) -> Secret | None:
    """The secret from environment `variable`, else from `file`; None where there is neither.

    A file that others can read is refused: it would be a secret no longer.
    """
    value = environ.get(variable, "").strip()
    if value:
        return Secret(value, f"environment variable {variable}")
    if file is None:
        return None
    try:
        if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ConfigError("readable by others", where=str(file), hint=f"chmod 600 {file}")
        value = file.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror}", where=str(file)) from error
    except UnicodeDecodeError:
        raise ConfigError("is not text", where=str(file)) from None  # the cause would quote the bytes
    if not value:
        raise ConfigError("is empty", where=str(file))
    return Secret(value, str(file))
