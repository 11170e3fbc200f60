"""`slo record`: what real users send, as a trace to be replayed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slo.bench.trace import parse_trace
from slo.cli.loading import DURATION
from slo.cli.options import config_option, context, json_option, target_options
from slo.client import server_address
from slo.files import usual_folder, write_atomically
from slo.page_client import PageClient
from slo.units import show_duration


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--last", "seconds", type=DURATION, default="10m", show_default=True, help="How far back, up to 24h.")
@target_options
@config_option
@json_option
def record(file: Path, seconds: float, config_path: Path | None, as_json: bool, **target: Any) -> int:
    """Write the arrivals of live traffic to FILE: times and text lengths, never texts.

    The server keeps those of the last 20 000 requests in memory. Replay them on any server, with made-up texts of the
    same lengths:  slo load --arrivals replay:FILE

    \b
    Exit codes: 0 written, 1 the server does not answer, 2 no extension there, or nothing arrived.
    """
    ctx = context(config_path, as_json=as_json, **target)
    address = server_address(ctx.config.endpoint)
    with PageClient(address, api_key=ctx.api_key(), timeout_s=ctx.config.client.timeout) as client:
        text = client.arrivals(seconds)
    trace = parse_trace(text, f"the last {show_duration(seconds)} of {address}")
    usual_folder(file.parent)
    write_atomically(file, text)
    span_s, complete = trace.duration_s, '"complete": true' in text.partition("\n")[0]
    if ctx.json:
        found = {"file": str(file), "requests": len(trace.due_s), "seconds": span_s, "complete": complete}
        ctx.emit_json(found)
    else:
        rate = len(trace.due_s) / span_s
        click.echo(f"{len(trace.due_s)} requests over {show_duration(span_s)} ({rate:.1f}/s) written to {file}")
    if not complete:
        ctx.err.print("older requests are forgotten: the server keeps the last 20 000", style="yellow")
    return 0
