"""`slo doctor`, `slo validate`, `slo similarity`."""

from __future__ import annotations

import os
from pathlib import Path

import click
import yaml
from rich.markup import escape
from rich.table import Table

from slo.cli.options import Context, config_option, context, json_option, target_options
from slo.cli.remedies import impossible
from slo.client import cosine
from slo.config import variables as all_variables
from slo.deploy.catalogue import STAND_IN_REVISION
from slo.deploy.checks import Level
from slo.deploy.doctor import diagnose
from slo.deploy.machine import this_machine
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import ConfigError, RequestError
from slo.model_files import STAND_IN_LABEL
from slo.watch.delivery.channels import build_routes, lacking
from slo.watch.wiring import lint


@click.command()
@config_option
@json_option
def doctor(config_path: Path | None, as_json: bool) -> int:
    """Can this machine run the server? Exit code 0 if nothing fails, else 2."""
    ctx = context(config_path, as_json=as_json)
    checks = diagnose(ctx.config, this_machine())
    failed = any(check.level is Level.FAIL for check in checks)
    if as_json:
        rows = [{"name": c.name, "level": c.level.value, "value": c.value, "fix": c.fix} for c in checks]
        ctx.emit_json({"ok": not failed, "checks": rows})
        return 2 if failed else 0
    table = Table(box=None, pad_edge=False)
    table.add_column("check")
    table.add_column("")
    table.add_column("found", overflow="fold")
    table.add_column("what to do", overflow="fold")
    colours = {Level.PASS: "green", Level.WARN: "yellow", Level.FAIL: "red"}
    for check in checks:
        colour = colours[check.level]
        table.add_row(check.name, f"[{colour}]{check.level.value}[/]", escape(check.value), escape(check.fix))
    ctx.out.print(table)
    return 2 if failed else 0


@click.command()
@config_option
@json_option
@click.option("--variables", is_flag=True, help="List the environment variables that override settings.")
def validate(config_path: Path | None, as_json: bool, variables: bool) -> int:
    """Check the configuration and print the settings in force. Exit code 2 names what is wrong, and where."""
    ctx = context(config_path, as_json=as_json)
    _check_watch(ctx)
    settings = ctx.config.model_dump(mode="json")
    if variables:
        rows = {name: _at(settings, path) for name, path in all_variables()}
        if as_json:
            ctx.emit_json(rows)
        else:
            for name, value in rows.items():
                click.echo(f"{name}={'' if value is None else value}")
    elif as_json:
        ctx.emit_json(settings)
    else:
        click.echo(yaml.safe_dump(settings, allow_unicode=True, sort_keys=False), nl=False)
    return 0


def _check_watch(ctx: Context) -> None:
    """Alerts that can never fire or reach nobody are an error; what fires late, or cannot work here, is said."""
    findings = lint(ctx.config)
    for finding in findings:
        if finding.level == "warning":
            click.echo(f"warning: {finding.message}", err=True)
    build_routes(ctx.config.alerts)
    # Not an error: a configuration may be checked where its secrets are not.
    for sentence in (*impossible(ctx.config), *lacking(ctx.config.alerts, os.environ)):
        click.echo(f"warning: {sentence}", err=True)
    errors = [finding.message for finding in findings if finding.level == "error"]
    if errors:
        raise ConfigError("\n".join(errors), where="watch", hint="choose another table in watch.burn")


def _at(settings: object, path: tuple[str, ...]) -> object:
    for key in path:
        assert isinstance(settings, dict)  # noqa: S101
        settings = settings[key]
    return settings


@click.command()
@config_option
@json_option
@target_options
@click.argument("a")
@click.argument("b")
def similarity(
    config_path: Path | None, as_json: bool, endpoint: str | None, model_name: str | None, api_key_file: Path | None,
    a: str, b: str,
) -> int:  # fmt: skip
    """Print the cosine similarity of the texts A and B."""
    ctx = context(config_path, as_json=as_json, endpoint=endpoint, model_name=model_name, api_key_file=api_key_file)
    with ctx.client() as client:
        first, second = client.embed([a, b]).vectors
    value = cosine(first, second)
    stand_in = is_stand_in(ctx)
    if as_json:
        ctx.emit_json({"similarity": value, "model": ctx.config.model.id, "stand_in": stand_in})
    else:
        click.echo(f"{value:.4f}")
        print_stand_in(ctx, stand_in)
    return 0


def is_stand_in(ctx: Context) -> bool:
    """Does the server at our endpoint say that its weights are generated?"""
    api = XinferenceApi(ctx.config.endpoint, key=ctx.api_key(), timeout_s=ctx.config.client.timeout)
    try:
        models = api.models()
    except RequestError:
        return False  # not a Xinference, or one that does not tell us: it makes no claim, then
    finally:
        api.close()
    mine = [model for model in models if ctx.config.model.id in (model.get("id"), model.get("model_name"))]
    return any(model.get("model_revision") == STAND_IN_REVISION for model in mine)


def print_stand_in(ctx: Context, stand_in: bool) -> None:
    """The label that no result of a stand-in goes without."""
    if stand_in:
        ctx.err.print(STAND_IN_LABEL, style="bold yellow")
