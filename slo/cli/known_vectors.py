"""`slo golden`: write the vectors that a server gives now, for `--golden` of a measurement to compare with later."""

from __future__ import annotations

from pathlib import Path

import click

from slo.bench.golden_file import references, usual_texts, write_golden
from slo.bench.own_texts import read_texts
from slo.cli.options import config_option, context, target_options

MOST = 1000


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
