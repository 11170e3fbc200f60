"""
`slo record`: what real users send, as a trace to be replayed. `slo golden`: the vectors that a server gives now, for
`--golden` of a measurement to compare with later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slo.bench.golden_file import references, usual_texts, write_golden
from slo.bench.own_texts import read_texts
from slo.bench.schedule import parse_trace
from slo.cli.options import DURATION, config_option, context, json_option, target_options
from slo.client import server_address
from slo.files import usual_folder, write_atomically
from slo.page_client import PageClient
from slo.units import show_duration

MOST = 1000


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


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--texts", "texts_file", type=click.Path(path_type=Path, dir_okay=False),
              help=f"Your own texts, at most {MOST} of them (default: 24 of all lengths).")  # fmt: skip
@target_options
@config_option
def golden(
    *, file: Path, texts_file: Path | None, config_path: Path | None, endpoint: str | None, model_name: str | None,
    api_key_file: Path | None,
) -> int:  # fmt: skip
    """Write texts with their vectors, which `--golden FILE` of a measurement holds a server to.

    \b
    Example: slo golden known.jsonl && slo load --rate 50 --duration 1m --golden known.jsonl
    Exit codes: 0 written, 2 usage or set-up error.
    """
    ctx = context(config_path, endpoint=endpoint, model_name=model_name, api_key_file=api_key_file)
    texts = usual_texts()
    if texts_file is not None:
        own = (part for request in read_texts(texts_file).requests for part in request.inputs)
        texts = list(dict.fromkeys(part for part in own if isinstance(part, str)))[:MOST]
    with ctx.client() as client:
        found = references(client, texts)
    write_golden(file, found)
    ctx.err.print(f"{len(found)} vectors of {len(found[0].vector)} written to {file}", highlight=False, soft_wrap=True)
    return 0
