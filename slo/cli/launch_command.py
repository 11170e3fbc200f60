"""`slo init`, `launch`, `stop`, `status`, and `python launch_model_server.py`, which is the same in a checkout."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn, get_args

import click
from rich.table import Table

from slo.cli.options import Context, config_option, context, json_option
from slo.cli.setup import print_stand_in
from slo.config import DEFAULT_PATH, Config, load
from slo.deploy.catalogue import path_is_given
from slo.deploy.doctor import shown
from slo.deploy.exclusive import SIGNALS
from slo.deploy.foreign import launch_on
from slo.deploy.handover import await_keeper, end_for_restart
from slo.deploy.job import Launched, Progress
from slo.deploy.keeper_link import KeeperFacts, keeper_command
from slo.deploy.launch import launch as bring_up
from slo.deploy.launch_plan import absolute
from slo.deploy.status import status as find_status
from slo.deploy.status import stop as end_server
from slo.errors import ConfigError
from slo.files import usual_folder, write_atomically
from slo.settings import Device, Precision
from slo.units import show_bytes, show_duration, show_ms

HELP = """Bring an embedding model up on Xinference, check it, and measure it for the first time.

Safe to run again at any time: what is up stays up. Exit codes: 0 up, 2 set-up error, 130 stopped by Ctrl-C;
with --status: 0 up, 1 not up. Whether the objective is met does not change the exit code.

\b
Credentials come from the environment alone:
  SLO_API_KEY                        a key of the server, instead of the one that a launch creates
  SLO_ADMIN_USER, SLO_ADMIN_PASSWORD an account that may launch models, for --endpoint
"""
# A wheel carries the file inside the package; a checkout has it in configs/.
_STARTERS = (Path(__file__).with_name("slo.yaml"), Path(__file__).parents[2] / DEFAULT_PATH)


@click.command(help=HELP, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@config_option
@json_option
@click.option("--model-path", type=click.Path(path_type=Path), help="Folder with the model's files.")
@click.option(
    "--model", "model_name", help="Which model: a name of `slo models`, or one of your own with --model-path."
)
@click.option("--uid", help="What requests ask for.  [default: the name]")
@click.option("--engine", help="openvino (ours), sentence_transformers, or another engine that Xinference has.")
@click.option("--precision", type=click.Choice(get_args(Precision)), help="Of the openvino engine; fp16: GPUs only.")
@click.option("--device", type=click.Choice(get_args(Device)), help="Where the model runs; cuda: an NVIDIA GPU.")
@click.option("--replica", type=int, help="Number of model processes.")
@click.option("--host", help="Address to listen on; any but loopback turns authentication on.")
@click.option("--port", type=int, help="Port to listen on.")
@click.option("--endpoint", help="Launch the model on this running Xinference instead of starting one.")
@click.option("--stock", is_flag=True, help="Xinference exactly as it comes: the baseline for comparisons.")
@click.option("--no-download", is_flag=True, help="Never ask ModelScope or Hugging Face for the model.")
@click.option("--foreground", is_flag=True, help="Stay until the server ends; Ctrl-C stops it.")
@click.option("--log", type=click.Path(path_type=Path), help="Where everything that the server says goes.")
@click.option("--status", "mode", flag_value="status", help="Say what is up, and change nothing.")
@click.option("--stop", "mode", flag_value="stop", help="Stop what was started here.")
@click.option("--restart", "mode", flag_value="restart", help="Start the server anew, by whoever keeps it running.")
def launch_model_server(
    config_path: Path | None, as_json: bool, model_path: Path | None, stock: bool, no_download: bool,
    foreground: bool, mode: str | None, **options: Any,
) -> int:  # fmt: skip
    """Dispatch to the mode that was asked for."""
    changes = {
        "model.name": options["model_name"], "model.uid": options["uid"], "model.path": model_path,
        "server.engine": options["engine"],
        "server.precision": options["precision"], "server.device": options["device"],
        "server.replicas": options["replica"],
        "server.host": options["host"], "server.port": options["port"], "server.log": options["log"],
        "model.download": False if no_download else None,
    }  # fmt: skip
    ctx = context(config_path, as_json=as_json, endpoint=options["endpoint"], **changes)
    if options["model_name"] and model_path is None:
        ctx = dataclasses.replace(ctx, config=_of_another_name(ctx.config, config_path))
    if mode == "status":
        return show_status(ctx)
    if mode == "stop":
        return stop_server(ctx)
    if mode == "restart" and not end_for_restart(ctx.config):
        stop_server(dataclasses.replace(ctx, json=False))
    return launch_server(ctx, stock=stock, path_given=model_path is not None, foreground=foreground)


def _of_another_name(config: Config, path: Path | None) -> Config:
    """`config` without the places of the file's own model, if the command line names another."""
    if load(path).model.name == config.model.name:
        return config
    elsewhere = dict.fromkeys(("path", "modelscope_id", "huggingface_id"))
    return config.model_copy(update={"model": config.model.model_copy(update=elsewhere)})


def launch_server(ctx: Context, *, stock: bool, path_given: bool, foreground: bool) -> int:
    """Launch, print the summary, and stay if asked to."""
    progress = Progress(ctx.err)
    if not ctx.config.server.endpoint:
        await_keeper(ctx.config, say=progress.say)
    required = path_given or path_is_given(ctx.config.model)
    if ctx.config.server.endpoint:
        launched = launch_on(ctx.config, progress, path_required=required)
    else:
        launched = bring_up(ctx.config, progress, stock=stock, path_required=required)
    if ctx.json:
        ctx.emit_json(_as_json(launched))
    else:
        _print_summary(ctx, launched)
    return stay(ctx) if foreground and not ctx.config.server.endpoint else 0


def _as_json(launched: Launched) -> dict[str, Any]:
    data = {f.name: getattr(launched, f.name) for f in dataclasses.fields(launched) if f.name not in ("first", "plan")}
    first = launched.first
    return {
        **data,
        "log": str(launched.log) if launched.log else None,
        "model": launched.plan.to_json(),
        "stand_in": launched.plan.stand_in,
        "first": None if first is None else {
            "verdict": first.judgement.verdict.value, "samples": first.total, "good": first.judgement.good,
            "p50_ms": first.p50_ms, "p95_ms": first.p95_ms, "max_ms": first.max_ms,
        },
    }  # fmt: skip


def _print_summary(ctx: Context, launched: Launched) -> None:

    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    grid.add_row("endpoint", f"{launched.endpoint}/v1/embeddings  (model {launched.plan.uid})")
    grid.add_row("access", launched.access)
    if launched.log:
        grid.add_row("log", shown(launched.log))
    if launched.first:
        first = launched.first
        grid.add_row("first look", f"{first.total} requests, one client: P50 {show_ms(first.p50_ms)}, "
                     f"P95 {show_ms(first.p95_ms)}, max {show_ms(first.max_ms)}")  # fmt: skip
        grid.add_row("verdict", str(first.judgement))
    if launched.changed:
        times = ", ".join(f"{name} {seconds:.1f}" for name, seconds in launched.stages.items() if seconds >= 0.05)
        grid.add_row("seconds", times)
    grid.add_row("next", "slo baseline · slo similarity A B · slo status · slo stop")
    ctx.out.print(grid)
    if launched.label:
        ctx.out.print(f"[bold yellow]{launched.label}[/]")
    ctx.out.print(str(launched), style="bold green", soft_wrap=True, markup=False, highlight=False)


def show_status(ctx: Context) -> int:
    """Print what is up; 0 if the model can be used, else 1."""
    found = find_status(ctx.config)
    if ctx.json:
        ctx.emit_json({**dataclasses.asdict(found), "stand_in": found.stand_in})
        return 0 if found.up else 1
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    colour = {"up": "green", "starting": "yellow"}.get(found.state, "red")
    grid.add_row("state", f"[{colour}]{found.state}[/]" + (f": {found.problem}" if found.problem else ""))
    grid.add_row("endpoint", found.endpoint)
    replicas = ", ".join(f"{count} {state}" for state, count in found.replicas.items())
    engine = found.settings.get("engine", "")
    grid.add_row("model", " · ".join(part for part in (found.model, engine, replicas) if part))
    if found.pid:
        grid.add_row("process", f"pid {found.pid}, {found.processes} processes, up {show_duration(found.uptime_s)}, "
                     f"{show_bytes(found.memory_bytes)}")  # fmt: skip
        grid.add_row("metrics", f"http://127.0.0.1:{found.metrics_port}/metrics (worker)")
        grid.add_row("log", found.log)
    if found.pid and found.outdated:
        grid.add_row("code", "[yellow]other than is installed here; --restart changes that[/]")
    if found.keeper or found.pid:
        grid.add_row("kept by", _kept(found.keeper))
    ctx.out.print(grid)
    print_stand_in(ctx, found.stand_in)
    return 0 if found.up else 1


def _kept(keeper: KeeperFacts | None) -> str:
    """Who starts the server again, and how often that was needed."""
    if keeper is None:
        return "nobody: what dies stays down until the next launch"
    who = f"pid {keeper.pid}" + (
        f", {keeper.unit}" if keeper.unit else ", in the foreground" if keeper.foreground else ""
    )
    if not keeper.restarts:
        return who
    due = "" if keeper.next_s is None else f"; next start at {time.strftime('%H:%M:%S', time.localtime(keeper.next_s))}"
    return f"{who}; deaths so far: {keeper.restarts}, last: {keeper.why}{due}"


def stop_server(ctx: Context) -> int:
    """Stop what was started here; fine if nothing was."""
    count = end_server(ctx.config, say=lambda text: ctx.err.print(text, markup=False, highlight=False))
    if ctx.json:
        ctx.emit_json({"stopped_processes": count})
    else:
        ctx.out.print("stopped" if count else "nothing to stop: no server was running that was started here")
    return 0


def stay(ctx: Context) -> NoReturn:
    """Become the server's keeper, a much smaller process: a signal stops both, and what dies is started again."""
    command = keeper_command(absolute(ctx.config).state_dir, foreground=True)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # until the keeper can act on one
    os.execv(command[0], command)  # noqa: S606


@click.command(params=launch_model_server.params, help=HELP)
@click.pass_context
def launch(ctx: click.Context, /, **options: Any) -> int:
    """Bring an embedding model up on Xinference, check it, and measure it for the first time."""
    code: int = ctx.invoke(launch_model_server, **options)
    return code


@click.command()
@click.argument("path", type=click.Path(path_type=Path, dir_okay=False), default=DEFAULT_PATH)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
def init(path: Path, force: bool) -> None:
    """Write a settings file to start from: every setting with its default and a comment.

    \b
    Example:  slo init && slo launch
    """
    if path.exists() and not force:
        raise ConfigError("is there already", where=str(path), hint="--force overwrites it")
    text = next(place for place in _STARTERS if place.is_file()).read_text(encoding="utf-8")
    usual_folder(path.parent)
    write_atomically(path, text)
    click.echo(f"wrote {path}")


@click.command()
@config_option
@json_option
def stop(config_path: Path | None, as_json: bool) -> int:
    """Stop the server that was launched here; fine if none runs."""
    return stop_server(context(config_path, as_json=as_json))


@click.command()
@config_option
@json_option
def status(config_path: Path | None, as_json: bool) -> int:
    """Say what is up. Exit code 0 up, 1 not up."""
    return show_status(context(config_path, as_json=as_json))
