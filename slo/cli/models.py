"""`slo models`: what lies in the folder of models, and removing what has not been used for longest."""

from __future__ import annotations

import time
from pathlib import Path

import click
from rich.table import Table

from slo.cli.options import config_option, context, json_option
from slo.model_store import Stored, listing, prune
from slo.units import parse_size, show_bytes, show_duration


@click.group()
def models() -> None:
    """List what is kept of models, and prune it.

    Graphs that the openvino engine made from a model lie under .slo/models and are found again at every start. Each
    takes about one and a half times the model's own size.
    """


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
