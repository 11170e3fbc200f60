"""How far it is: a bar on a terminal, a plain line now and then elsewhere. Always on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

STEPS = 5  # plain lines per phase


@contextmanager
def progress_on(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A function of phase, done and total that shows them."""
    if not console.is_terminal:
        yield _plain(console)
        return
    bar = Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )
    tasks: dict[str, int] = {}
    with bar:

        def show(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = int(bar.add_task(phase, total=total))
            bar.update(bar.task_ids[tasks[phase]], completed=done)

        yield show


def _plain(console: Console) -> Callable[[str, int, int], None]:
    def show(phase: str, done: int, total: int) -> None:
        if done * STEPS // total != (done - 1) * STEPS // total:
            console.print(f"{phase} {done}/{total}", highlight=False)

    return show
