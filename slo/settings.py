"""What every section of the configuration is made of: immutable models, and values with units."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from slo.errors import SloError
from slo.units import parse_duration, parse_size


def _unit(parse: Any) -> BeforeValidator:
    """Turn `ConfigError` of a unit parser into the `ValueError` that pydantic reports with its path."""

    def convert(value: Any) -> Any:
        try:
            return parse(value)
        except (SloError, TypeError, ValueError) as error:
            raise ValueError(getattr(error, "message", str(error))) from error

    return BeforeValidator(convert)


def switch(value: Any) -> Any:
    """YAML reads a bare `on` or `off` as a boolean; a setting that has these words means the words."""
    return {True: "on", False: "off"}.get(value, value) if isinstance(value, bool) else value


Duration = Annotated[float, _unit(parse_duration)]  # seconds
Size = Annotated[int, _unit(parse_size)]  # bytes
Precision = Literal["auto", "int8", "fp16", "bf16", "fp32"]
Device = Literal["cpu", "cuda"]


class Section(BaseModel):
    """A part of the configuration: immutable, and intolerant of keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
