"""`slo models`: which models have a name and who serves them; what is kept of them, and pruning that."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import click
from rich.table import Table

from slo.cli.options import config_option, context, json_option
from slo.deploy.catalogue import GTE, Family, builtin_families, registered_families, usual_family
from slo.deploy.registration import OPENVINO
from slo.deploy.served_by import ServedBy, server_of
from slo.model_store import Stored, listing, prune
from slo.units import parse_size, show_bytes, show_duration


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.pass_context
def models(current: click.Context, config_path: Path | None, as_json: bool) -> int:
    """List the models that can be launched by name, and who would serve each here.

    Those built into Xinference and those registered with it: by our engine (openvino), by one of Xinference's own
    behind our door, or not here, and why not. The files decide where they are on this disk: `files` says where.

    `list` and `prune` are about what is kept: graphs that the openvino engine made from a model lie under .slo/models
    and are found again at every start. Each takes about one and a half times the model's own size.

    Example:  slo models && slo launch --model bge-m3
    """
    if current.invoked_subcommand is not None:
        return 0
    ctx = context(config_path, as_json=as_json)
    state_dir = ctx.config.state_dir.absolute()
    named = [*builtin_families(), *registered_families(state_dir)]
    if not any(family.name == GTE for family in named):
        named.append(usual_family())
    rows = [(family, server_of(family, state_dir)) for family in named]
    if as_json:
        ctx.emit_json({"models": [_named_row(family, server) for family, server in rows]})
        return 0
    table = Table("model", "numbers", "tokens", "served by", "files", box=None, pad_edge=False)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for family, server in rows:
        table.add_row(family.name, str(family.dimensions), str(family.max_tokens), server.engine or "[red]not here[/]",
                      str(server.files or ""))  # fmt: skip
    ctx.out.print(table)
    for family, server in rows:
        if server.reason:
            ctx.out.print(f"[bold]{family.name}[/]: {server.reason}", soft_wrap=True, highlight=False)
    count = Counter(server.engine for _, server in rows)
    others = sum(count.values()) - count[OPENVINO] - count[""]
    ctx.out.print(
        f"{len(rows)} models: {count[OPENVINO]} by {OPENVINO}, {others} by Xinference's own engines behind the same "
        f"door, {count['']} not here",
        soft_wrap=True,
    )
    return 0


def _named_row(family: Family, server: ServedBy) -> dict[str, object]:
    return {
        "name": family.name, "builtin": family.builtin, "dimensions": family.dimensions,
        "max_tokens": family.max_tokens, "architecture": family.architecture or None, "engine": server.engine or None,
        "reason": server.reason, "files": str(server.files) if server.files else None,
    }  # fmt: skip


@models.command("list")
@config_option
@json_option
def list_(config_path: Path | None, as_json: bool) -> int:
    """Show graphs, stand-ins and downloads with their size and last use.

    Example:  slo models list
    """
    ctx = context(config_path, as_json=as_json)
    found = listing(ctx.config.state_dir.absolute() / "models")
    if as_json:
        ctx.emit_json({"models": [_row(entry) for entry in found], "bound_bytes": ctx.config.model.max_artefacts})
        return 0
    if not found:
        ctx.out.print("nothing is kept yet: a launch or `slo quantize` makes it")
        return 0
    table = Table("folder", "what", "size", "last used", box=None, pad_edge=False)
    for entry in found:
        when = "in use" if entry.in_use else f"{show_duration(max(0.0, time.time() - entry.used_s))} ago"
        table.add_row(entry.path.name, _what(entry), show_bytes(entry.size_bytes), when)
    ctx.out.print(table)
    graphs = sum(entry.size_bytes for entry in found if entry.kind == "graphs")
    ctx.out.print(
        f"graphs take {show_bytes(graphs)} of {show_bytes(ctx.config.model.max_artefacts)} (model.max_artefacts)",
        soft_wrap=True,
    )
    return 0


@models.command("prune")
@config_option
@json_option
@click.option("--keep", metavar="SIZE", help="What graphs may take, e.g. 2GiB; 0 removes all that are not in use.  "
              "[default: model.max_artefacts]")  # fmt: skip
def prune_(config_path: Path | None, as_json: bool, keep: str | None) -> int:
    """Remove graphs, the least recently used first, until the rest fits. What is in use stays.

    Stand-ins and downloads stay, too: only graphs can be made again from what is at hand. A launch prunes by itself.

    Example:  slo models prune --keep 2GiB
    """
    ctx = context(config_path, as_json=as_json)
    bound_bytes = ctx.config.model.max_artefacts if keep is None else parse_size(keep)
    removed = prune(ctx.config.state_dir.absolute() / "models", bound_bytes)
    if as_json:
        ctx.emit_json({"removed": [_row(entry) for entry in removed]})
        return 0
    for entry in removed:
        ctx.out.print(f"removed {entry.path.name}: {_what(entry)}", soft_wrap=True)
    ctx.out.print(f"{show_bytes(sum(entry.size_bytes for entry in removed))} freed")
    return 0


def _what(entry: Stored) -> str:
    if entry.kind == "graphs":
        return f"{', '.join(entry.parts) or 'nothing yet'} of {entry.source or 'a model not recorded'}"
    return "files of a model" if entry.kind == "model" else "left over by a process that died"


def _row(entry: Stored) -> dict[str, object]:
    return {
        "folder": str(entry.path), "kind": entry.kind, "made_from": entry.source, "parts": list(entry.parts),
        "size_bytes": entry.size_bytes, "used_s": entry.used_s, "in_use": entry.in_use,
    }  # fmt: skip
