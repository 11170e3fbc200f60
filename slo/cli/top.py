"""`slo top`: the live page's figures in the terminal."""

from __future__ import annotations

import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from slo.cli.options import Context, config_option, context, json_option, target_options
from slo.client import server_address
from slo.errors import RequestError
from slo.page_client import PageClient
from slo.report.screen import board_view, state_of

PERIOD_S = 2.0
SLOW_S = 10.0  # history changes slowly
EXIT_CODES = {"met": 0, "missed": 1}
HUNG_UP = "\x04"  # as Ctrl-D: the terminal has gone, and reading from it gives nothing at once, for ever


@click.command()
@click.option("--once", is_flag=True, help="Print one snapshot and leave; implied when the output is no terminal.")
@target_options
@config_option
@json_option
def top(config_path: Path | None, as_json: bool, once: bool, **target: Any) -> int:
    """The server's figures, live: P95, attainment, budget, traffic, stages, processes, alerts.

    Needs the xinference-slo extension in the server, as `make launch` starts it. Press q to leave.

    \b
    Exit codes of a snapshot: 0 met, 1 missed or unreachable, 2 no extension there, 3 unproven or no requests.
    """
    ctx = context(config_path, as_json=as_json, **target)
    address = server_address(ctx.config.endpoint)
    with PageClient(address, api_key=ctx.api_key(), timeout_s=ctx.config.client.timeout) as client:
        if ctx.json or once or not (sys.stdout.isatty() and sys.stdin.isatty()):
            return _snapshot(client, ctx)
        _watch(client, ctx.out)
    return 0


def _snapshot(client: PageClient, ctx: Context) -> int:
    board, history = client.board(), client.history()
    if ctx.json:
        ctx.emit_json({"board": board, "history": history})
    else:
        ctx.out.print(board_view(board, history, size=(ctx.out.width, 1000)))
    return EXIT_CODES.get(state_of(board), 3)


def _watch(client: PageClient, console: Console) -> None:
    """Until `q`. The first answer must come; later ones may fail, which is shown until they come again."""
    board, history = client.board(), client.history()
    before: dict[str, Any] | None = None
    asked_s, note = time.monotonic(), ""
    with keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(board_view(board, history, before=before, note=note, size=console.size), refresh=True)
            if pressed(PERIOD_S) in ("q", "Q", "\x03", "\x1b", HUNG_UP):
                return
            try:
                fresh = client.board()
                if time.monotonic() - asked_s >= SLOW_S:
                    history, asked_s = client.history(), time.monotonic()
                before, board, note = board, fresh, ""
            except RequestError as error:
                note = f"reconnecting… ({error.outcome})"


@contextmanager
def keys() -> Iterator[Callable[[float], str]]:
    """Single keys without Enter: a function that waits so many seconds and gives the key, or an empty text.

    `HUNG_UP` when the terminal has been closed.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)

    def pressed(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return (sys.stdin.read(1) or HUNG_UP) if ready else ""

    try:
        yield pressed
    finally:
        with suppress(termios.error):  # a closed terminal needs nothing restored
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
