"""
Settings of the extension, as the launcher hands them over: one JSON object in `SLO_SERVE_SETTINGS`.

Its keys are those of the section `serve:` in `configs/slo.yaml`; what is absent keeps its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError

from slo.config import ServeSection
from slo.errors import ConfigError

VARIABLE = "SLO_SERVE_SETTINGS"


def load_settings(environ: Mapping[str, str]) -> ServeSection:
    """The section `serve` from `environ`, defaults where it says nothing. Raises `ConfigError` naming the key."""
    raw = environ.get(VARIABLE, "").strip()
    if not raw:
        return ServeSection()
    try:
        return ServeSection.model_validate(json.loads(raw))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join((VARIABLE, *map(str, first["loc"])))
        raise ConfigError(first["msg"].removeprefix("Value error, "), where=where) from error
    except ValueError as error:
        raise ConfigError("not a JSON object", where=VARIABLE, hint="unset it for the defaults") from error
