"""
The reference pages, from the code: docs/reference/{commands,configuration,http,metrics}.md.

    python scripts/reference.py            write them
    python scripts/reference.py --check    exit 1 and name those that are no longer true

`make reference` runs it; a test runs the check.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from fastapi import FastAPI
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from slo.cli.launch_command import launch_model_server
from slo.cli.main import COMMANDS, cli
from slo.files import write_atomically
from slo.serve.door.cache import Cache
from slo.serve.door.directory import Directory
from slo.serve.door.environment import ServeSettings
from slo.serve.install import install
from slo.serve.telemetry.telemetry import Telemetry
from slo.serve.telemetry.window import Edges
from slo.serve.web.exposition import Exposition
from slo.serve.web.processes import Processes
from slo.watch import heartbeat
from slo.watch.delivery import policy

ROOT = Path(__file__).resolve().parent.parent
NOTE = "<!-- made by scripts/reference.py (`make reference`); do not edit -->\n"
WIDTH = 100


class NoModels:
    """A finder of replicas that finds none: to describe a server takes none."""

    async def find(self, model: str) -> list[Any]:  # noqa: ARG002
        return []

    def states(self, model: str) -> dict[str, str]:  # noqa: ARG002
        return {}

    async def models(self) -> list[str]:
        return []

    def silent(self, model: str) -> list[Any]:  # noqa: ARG002
        return []


def commands() -> str:
    """Every command with its help text, as the terminal shows it."""
    parts = [NOTE, "# Commands\n", _help(launch_model_server, "python launch_model_server.py")]
    for name in COMMANDS:
        command = cli.get_command(click.Context(cli), name)
        assert command is not None  # noqa: S101 - it is listed
        parts += _helps(command, f"slo {name}")
    return "\n".join(parts)


def _helps(command: click.Command, name: str) -> Iterator[str]:
    yield _help(command, name)
    if isinstance(command, click.Group):
        for child_name, child in command.commands.items():
            yield from _helps(child, f"{name} {child_name}")


def _help(command: click.Command, name: str) -> str:
    # A command keeps the help option that it was first asked for, so that must be the one that `slo` gives it.
    how: dict[str, Any] = {"terminal_width": WIDTH, "max_content_width": WIDTH, "help_option_names": ["-h", "--help"]}
    with click.Context(command, info_name=name, **how) as context:
        return f"## `{name}`\n\n```\n{command.get_help(context).rstrip()}\n```\n"


def configuration() -> str:
    """Every key with its default, its environment variable and what it is for, in the order of configs/slo.yaml."""
    lines = [NOTE, "# Configuration\n", "Keys of `configs/slo.yaml` (or `--config FILE`).\n"]
    path: list[str] = []
    comment: list[str] = []
    for line in (ROOT / "configs/slo.yaml").read_text(encoding="utf-8").splitlines():
        if match := re.match(r"^( *)# ?(.*)$", line):
            comment.append(match[2])
        elif match := re.match(r"^( *)([a-z0-9_]+):\s*(.*)$", line):
            depth = len(match[1]) // 2
            path[depth:] = [match[2]]
            lines.append(_key(".".join(path), match[3], " ".join(comment)))
            comment = []
        elif not line.strip():
            comment = []
    return "\n".join(lines) + "\n"


def _key(key: str, default: str, said: str) -> str:
    if not default:
        return f"\n## {key}\n\n{said}\n".replace("\n\n\n", "\n")
    variable = "SLO_" + key.replace(".", "_").upper()
    return f"- **`{key}`** = `{default}` · `{variable}`" + (f"  \n  {said}" if said else "")


def http() -> str:
    """Our routes, from the server's own OpenAPI document."""
    app = FastAPI()

    async def describe() -> dict[str, Any]:
        install(app, object(), NoModels(), ServeSettings(), secured=None, short=False)
        return app.openapi()

    paths = asyncio.run(describe())["paths"]
    lines = [NOTE, "# HTTP API\n", "`POST /v1/embeddings` is OpenAI's: see [requests](../requests.md). Beside it:\n"]
    for path, methods in paths.items():
        for method, route in methods.items():
            lines.append(f"## `{method.upper()} {path}`\n\n{route['summary']}.\n")
            lines += [_parameter(each) for each in route.get("parameters", [])]
            if body := route.get("requestBody"):
                lines += [_order(each) for each in body["content"]["application/json"]["schema"]["oneOf"]]
            answers = ", ".join(f"{code} {each['description']}" for code, each in sorted(route["responses"].items()))
            lines.append(f"- Answers: {answers}\n")
    return "\n".join(lines)


def _parameter(parameter: dict[str, Any]) -> str:
    bounds = ", ".join(f"{name} {value}" for name, value in parameter["schema"].items() if name != "type")
    return f"- Query `{parameter['name']}`: {parameter['schema']['type']}" + (f" ({bounds})" if bounds else "")


def _order(schema: dict[str, Any]) -> str:
    fields = {name: each.get("const", "…") for name, each in schema["properties"].items()}
    return f"- Body `{json.dumps(fields, ensure_ascii=False)}`"


def metrics() -> str:
    """Every series of `/slo/metrics`, from the collector."""

    async def collected() -> list[Any]:
        settings, edges = ServeSettings(), Edges(())
        telemetry, cache = Telemetry(edges=edges), Cache(0)
        directory = Directory(NoModels(), settings, cache, telemetry)
        return list(Exposition(directory, cache, telemetry, Processes(lambda: [])).collect())

    lines = [
        NOTE,
        "# Metrics\n",
        "`GET /slo/metrics`, for Prometheus; those of `slo watch` are passed on by the server it watches.\n",
    ]
    lines += ["| name | type | labels | what |", "|---|---|---|---|"]
    lines += [_series(family, family._labelnames) for family in asyncio.run(collected())]
    watch = heartbeat.metric_text(heartbeat.Beat(at_s=0.0, pid=0, interval_s=0.0)) + policy.metric_text(
        ["dingtalk"], {}, {}
    )
    for family in text_string_to_metric_families(watch):
        lines.append(_series(family, family.samples[0].labels))
    return "\n".join(lines) + "\n"


def _series(family: Metric, labels: Iterable[str]) -> str:
    name = family.name + ("_total" if family.type == "counter" else "")
    return f"| `{name}` | {family.type} | {', '.join(f'`{label}`' for label in labels)} | {family.documentation} |"


PAGES = {"commands": commands, "configuration": configuration, "http": http, "metrics": metrics}


def main() -> None:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a page is no longer true")
    check = parser.parse_args().check
    old: list[str] = []
    for name, page in PAGES.items():
        path, text = ROOT / "docs" / "reference" / f"{name}.md", page()
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            old.append(str(path.relative_to(ROOT)))
            if not check:
                write_atomically(path, text)
    if old:
        print("no longer true, run `make reference`:" if check else "written:", ", ".join(old))
    sys.exit(1 if old and check else 0)


if __name__ == "__main__":
    main()
