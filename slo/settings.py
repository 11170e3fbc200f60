"""
What every section of the configuration is made of: immutable models, and values with units.

YAML as we read it is the safe kind, in which a key may stand only once.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

import yaml
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


def _http_address(value: Any) -> Any:
    """An address that HTTP requests can go to; nothing at all passes, where that is allowed."""
    if not isinstance(value, str) or value == "":
        return value
    parts = urlsplit(value)  # its `ValueError` names a bad port or address
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f]", value):
        raise ValueError("not an address like http://10.0.0.5:9997")
    assert parts.port is None or parts.port >= 0  # noqa: S101 - reading it is the check
    return value


def _listening_host(value: Any) -> Any:
    """A name or an IP address to listen on."""
    if not isinstance(value, str):
        return value
    bare = value.removeprefix("[").removesuffix("]")
    try:
        ip_address(bare)
    except ValueError:
        if not _HOST_NAME.fullmatch(bare) or bare.rpartition(".")[2].isdigit():
            raise ValueError("neither an IP address nor the name of a host") from None
    return value


_HOST_NAME = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*\.?")
Duration = Annotated[float, _unit(parse_duration)]  # seconds
Address = Annotated[str, BeforeValidator(_http_address)]
ListeningHost = Annotated[str, BeforeValidator(_listening_host)]
Size = Annotated[int, _unit(parse_size)]  # bytes
Precision = Literal["auto", "int8", "fp16", "bf16", "fp32"]
Device = Literal["cpu", "cuda"]


class Section(BaseModel):
    """A part of the configuration: immutable, and intolerant of keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    @classmethod
    def misunderstandings(cls, data: Any) -> Iterator[tuple[tuple[str, ...], str]]:
        """Values that would be taken for something else: `port: true` for 1, an empty path for the current folder."""
        for name, field in cls.model_fields.items() if isinstance(data, dict) else ():
            value, kinds = data.get(name), {field.annotation, *get_args(field.annotation)}
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                for path, message in field.annotation.misunderstandings(value):
                    yield (name, *path), message
            switched = any(getattr(rule, "func", None) is switch for rule in field.metadata)
            if isinstance(value, bool) and bool not in kinds and not switched:
                yield (name,), f"a value is wanted here, not true or false, got {value!r}"
            if value == "" and Path in kinds:
                yield (name,), "the path is empty: give one" + (", or null" if type(None) in kinds else "")


class _Loader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice: plain YAML keeps the last one and loses the first without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        first: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            line = key.start_mark.line + 1
            if key.value in first:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} stands here a second time, after line {first[key.value]}",
                    key.start_mark,
                )  # fmt: skip
            first[key.value] = line
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    """The value of `text`. Raises `yaml.YAMLError`, a repeated key included, with its place."""
    return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
