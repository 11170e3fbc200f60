"""`slo control`: the orders that the watch's remedies give, for people. Each is noted as a change in the history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import orjson

from slo.cli.options import Context, config_option, context, json_option
from slo.cli.remedies import add_replica, order, remove_replica
from slo.clock import SystemClock, iso
from slo.deploy.keeper_link import stop_command
from slo.errors import BadAnswer, ConfigError, StoreError
from slo.host import user_name
from slo.http import HttpClient
from slo.watch.history.event_log import HistoryEvent, write
from slo.watch.history.store import Store
from slo.watch.wiring import history_path


@click.group()
def control() -> None:
    """Orders to the running server: admission, cache, replicas. They last until the next one or its end."""


@control.command()
@config_option
@json_option
def show(config_path: Path | None, as_json: bool) -> int:
    """What is in force: admission, replicas, and the last orders."""
    ctx = context(config_path, as_json=as_json)
    found = _status(ctx)
    if ctx.json:
        ctx.emit_json(found)
        return 0
    orders = found["control"]
    click.echo(f"admission  {orders['policy']}")
    for name, uids in found["replicas"].items():
        click.echo(f"replicas   {name}: {', '.join(uids) or 'none'}")
    for note in orders["actions"]:
        click.echo(f"{iso(note['at_s'])}  {note['said']}  (by {note['by']})")
    return 0


@control.command()
@click.argument("policy", type=click.Choice(["defer", "shed", "queue"]))
@config_option
def admission(config_path: Path | None, policy: str) -> int:
    """defer: serve what would be late after the rest. shed: refuse it at once. queue: one line for everybody."""
    ctx = context(config_path)
    return _done(ctx, str(order(ctx.config, {"action": "admission", "policy": policy}).get("said", policy)))


@control.command("clear-cache")
@config_option
def clear_cache(config_path: Path | None) -> int:
    """Forget all vectors, after wrong ones came back."""
    ctx = context(config_path)
    return _done(ctx, str(order(ctx.config, {"action": "clear_cache"}).get("said", "cache cleared")))


@control.command("add-replica")
@config_option
def add(config_path: Path | None) -> int:
    """Start one more replica of the model; ready when this returns, in a minute or so."""
    ctx = context(config_path)
    number = add_replica(ctx.config)
    return _done(ctx, f"replica {number} of {ctx.config.model.id} added")


@control.command("remove-replica")
@click.argument("number", type=click.IntRange(min=0))
@config_option
def remove(config_path: Path | None, number: int) -> int:
    """Stop the replica of that number (`slo control show`). The last one is not stopped: that is `--stop`."""
    ctx = context(config_path)
    replicas = _status(ctx)["replicas"].get(ctx.config.model.id, [])
    if len(replicas) < 2:
        raise ConfigError(f"{ctx.config.model.id} has no other replica that serves",
                          hint=f"to stop the model: {stop_command(ctx.config.state_dir)}")  # fmt: skip
    remove_replica(ctx.config, number)
    return _done(ctx, f"replica {number} of {ctx.config.model.id} removed")


def _status(ctx: Context) -> dict[str, Any]:
    """Orders in force, and the uids of the replicas that serve, by model."""
    url = f"{ctx.config.endpoint}/slo/api/status"
    with HttpClient(api_key=ctx.api_key(), hint=None, timeout_s=ctx.config.client.timeout) as fetch:
        try:
            said = orjson.loads(fetch.get(url))
            models = {model["model"]: [replica["uid"] for replica in model["replicas"]] for model in said["models"]}
            return {"control": said["control"], "replicas": models}
        except (ValueError, KeyError, TypeError) as error:
            raise BadAnswer(f"{url}: not the status of our extension", url=url, status=200,
                            hint="orders need the extension: serve.enabled") from error  # fmt: skip


def _done(ctx: Context, said: str) -> int:
    """Say it, and note it, so that the next alert quotes it as what changed."""
    click.echo(said)
    try:
        with Store(history_path(ctx.config), max_bytes=ctx.config.watch.store.max_size) as store:
            now_s = SystemClock().wall()
            write(store, HistoryEvent(at_s=now_s, kind="change", subject=said, author=user_name()))
    except StoreError as error:
        click.echo(f"warning: not noted in the history: {error.message}", err=True)
    return 0
