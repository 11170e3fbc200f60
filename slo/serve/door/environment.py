"""
Settings of the extension, as the launcher hands them over: one JSON object in `SLO_SERVE_SETTINGS`.

Its keys are those of the section `serve:` in `configs/slo.yaml` and `thresholds_ms`; what is absent keeps its default.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import Field, ValidationError

from slo.errors import ConfigError
from slo.objective import Objective, parse_objective
from slo.settings_serve import ServeSection

VARIABLE = "SLO_SERVE_SETTINGS"
OBJECTIVE = "SLO_OBJECTIVE"


class ServeSettings(ServeSection):
    """The section `serve`, and the thresholds of the objectives: requests within each are counted exactly.

    The first one is that of the main objective, and the deadline where none is set.
    """

    thresholds_ms: tuple[float, ...] = Field((Objective().threshold_ms,), min_length=1, max_length=16)


def load_settings(environ: Mapping[str, str]) -> ServeSettings:
    """What the launcher said in `environ`, defaults where it says nothing. Raises `ConfigError` naming the key."""
    raw = environ.get(VARIABLE, "").strip()
    try:
        said = json.loads(raw) if raw else {}
        if isinstance(said, dict) and "thresholds_ms" not in said and environ.get(OBJECTIVE):
            said["thresholds_ms"] = [parse_objective(environ[OBJECTIVE]).threshold_ms]
        settings = ServeSettings.model_validate(said)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join((VARIABLE, *map(str, first["loc"])))
        raise ConfigError(first["msg"].removeprefix("Value error, "), where=where) from error
    except ValueError as error:
        raise ConfigError("not a JSON object", where=VARIABLE, hint="unset it for the defaults") from error
    if settings.admission.deadline is not None:
        return settings
    admission = settings.admission.model_copy(update={"deadline": settings.thresholds_ms[0] / 1000})
    return settings.model_copy(update={"admission": admission})
