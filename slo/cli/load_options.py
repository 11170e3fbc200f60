"""What `load`, `stress`, `capacity` and `plan` share: options, the session, and the command that repeats a run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from slo.bench.golden_file import check_golden
from slo.bench.own_texts import read_texts
from slo.bench.resources import server_root
from slo.bench.session import Session
from slo.bench.wire import target
from slo.bench.workload import WORKLOADS, Workload, parse_mix
from slo.cli.options import (
    Context,
    config_option,
    given_options,
    golden_option,
    json_option,
    measuring_options,
    repeating,
    target_options,
)
from slo.cli.progress_line import LiveLine
from slo.clock import SystemClock
from slo.errors import BadRequest, RequestError, RequestTimeout, RunError, Unauthorized, Unreachable
from slo.page_client import server_facts
from slo.texts import SEED_EXAMPLES

Command = TypeVar("Command", bound=Callable[..., Any])
FEWEST_CONNECTIONS = 1


def workload_options(command: Command) -> Command:
    """What is sent, to whom, and how closely the answers are looked at."""
    for option in (
        json_option,
        config_option,
        target_options,
        golden_option,
        measuring_options,
        click.option("--no-keepalive", is_flag=True, help="A new connection for each request."),
        click.option("--check-every", type=click.IntRange(min=1), default=50, show_default=True,
                     help="Parse every n-th answer and compare a sample with its reference vector."),
        click.option("--encoding", type=click.Choice(["float", "base64"]), default="float", show_default=True,
                     help="How vectors travel; float is what most clients ask for."),
        click.option("--seed", type=int, help="Same seed, same texts and arrivals (default: from the clock)."),
        click.option("--texts", "texts_file", type=click.Path(path_type=Path, dir_okay=False),
                     help="Your own texts, none twice: lines, .tsv (id, text), or .jsonl with `text` or `input`."),
        click.option("--zipf", type=float, help="Repeat texts by Zipf's law with this exponent (default: all unique)."),
        click.option("--batch", type=int, default=1, show_default=True, help="Texts per request."),
        click.option("--chars", help="Lengths in characters: 50, 20..400 or 20..400:lognormal."),
        click.option("--tokens", help="The same in tokens of Chinese text, special ones included: 128, 64..512."),
        click.option("--workload", type=click.Choice(list(WORKLOADS)), help="Lengths and batches as usual for it."),
        click.option("--mix", default="short=1,medium=1,long=1", show_default=True,
                     help="Weights of short, medium, long, doc128, doc256, doc512, query, passage."),
    ):  # fmt: skip
        command = option(command)
    return command


def retries_option(command: Command) -> Command:
    """`--retries N`."""
    return click.option(
        "--retries", type=click.IntRange(0, 10), default=0, show_default=True,
        help="Ask again as OpenAI's SDKs do (theirs: 2), after Retry-After; latency counts from the first due time.",
    )(command)  # fmt: skip


def drawn(seed: int | None) -> int:
    """The seed that was given, else one from the clock."""
    return int(SystemClock().wall()) if seed is None else seed


def make_session(
    ctx: Context, *, seed: int, line: LiveLine, connections: int = 256, command: str | None = None, **given: Any
) -> Session:
    """The session that the options ask for; prints the seed and the command that repeats it.

    A run that goes on has its `command` already, and nothing is printed.

    Asks for one embedding first. Raises what that request raises when it can only be a mistake (key, model name,
    texts), and `RunError` when nobody answers.
    """
    given |= resolved(given)
    config, clock = ctx.config, SystemClock()
    texts_file: Path | None = given["texts_file"]
    own = read_texts(texts_file, batch=given["batch"]) if texts_file else None
    workload = Workload(mix=parse_mix(given["mix"]), batch=given["batch"], zipf=given["zipf"], own=own, seed=seed)
    dimension, known = vector_length(ctx), golden_likeness(ctx, given["golden_file"])
    if command is None:
        command = repeating(seed)
        ctx.err.print(f"seed {seed}; repeat with: {command}", highlight=False, soft_wrap=True, markup=False)
    return Session(
        target=target(
            config.endpoint, config.model.id, api_key=ctx.api_key(), timeout_s=config.client.timeout,
            extras=ctx.extras, keepalive=not given["no_keepalive"],
        ),
        workload=workload,
        objective=config.slo,
        seed=seed,
        dimension=dimension,
        encoding=given["encoding"],
        connections=connections,
        check_every=given["check_every"],
        retries=given.get("retries") or 0,
        server=server_facts(config.endpoint, config.model.id, api_key=ctx.api_key(), extras=ctx.extras),
        server_pid=server_root(config.state_dir, config.endpoint),
        settings={"command": command, **known},
        clock=clock,
        show=line,
    )  # fmt: skip


def golden_likeness(ctx: Context, file: Path | None) -> dict[str, Any]:
    """For the settings of a record: how alike the vectors of `file` are. Raises `RunError` where they are not."""
    if file is None:
        return {}
    with ctx.client() as client:
        return {"golden": {"file": file.name, **check_golden(client, file).to_json()}}


def resolved(given: dict[str, Any]) -> dict[str, Any]:
    """`mix` and `batch` as --workload, --chars or --tokens ask for them; unchanged without one. Raises `UsageError`."""
    named = {f"--{name}": given.get(name) for name in ("workload", "chars", "tokens") if given.get(name)}
    also = set(named) | (given_options() & {"--mix", "--texts"} if named else set())
    if len(also) > 1:
        raise click.UsageError(f"{' and '.join(sorted(also))}: give one of them, it says what is sent")
    mix, batch = given["mix"], given["batch"]
    if name := given.get("workload"):
        mix, usual = WORKLOADS[name]
        batch = batch if "--batch" in given_options() else usual
    elif named:
        ((option, lengths),) = named.items()
        mix = f"{option[2:]}:{lengths}"
    return {"mix": mix, "batch": batch, "workload": None, "chars": None, "tokens": None}


def vector_length(ctx: Context) -> int | None:
    """The length of the model's vectors; None when the server is too busy to say."""
    with ctx.client() as client:
        try:
            return len(client.embed(SEED_EXAMPLES["short"]).vectors[0])
        except (Unauthorized, BadRequest):
            raise
        except (Unreachable, RequestTimeout) as error:
            raise RunError(f"nothing measured: {error.message}", hint=error.hint) from error
        except RequestError:
            return None
