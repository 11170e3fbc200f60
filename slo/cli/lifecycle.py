"""`slo init`, `launch`, `stop`, `status`: what `launch_model_server.py` does, where there is no checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from slo.cli.launch import HELP, launch_model_server, show_status, stop_server
from slo.cli.options import config_option, context, json_option
from slo.config import DEFAULT_PATH
from slo.errors import ConfigError
from slo.files import usual_folder, write_atomically

# A wheel carries the file inside the package; a checkout has it in configs/.
_STARTERS = (Path(__file__).with_name("slo.yaml"), Path(__file__).parents[2] / DEFAULT_PATH)


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
