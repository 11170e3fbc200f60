"""YAML as we read it: the safe kind, in which a key may stand only once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import yaml


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
