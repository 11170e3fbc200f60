"""Stages of a launch as the user sees them: a spinner on a terminal, one line per stage elsewhere, seconds for both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.status import Status


class Progress:
    """Writes to `console` (diagnostics, not the product) and remembers how long each stage took."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}
        self._status: Status | None = None
        self._stage = ""
        self._note = ""
        self._shown = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Everything done inside belongs to `name`; its line appears when it ends well."""
        start_s = time.monotonic()
        self._stage, self._note, self._shown = name, "", ""
        if self.console.is_terminal:
            with self.console.status(name) as self._status:
                yield
            self._status = None
        else:
            yield
        self.seconds[name] = time.monotonic() - start_s
        tail = f"  {escape(self._note)}" if self._note else ""
        self.console.print(f"[green]✓[/] {name:<12} {self.seconds[name]:6.1f} s{tail}", soft_wrap=True, highlight=False)

    def note(self, text: str) -> None:
        """What came out of the running stage."""
        self._note = text

    def busy(self, text: str) -> None:
        """What the running stage is doing right now; shown when it changes."""
        if text == self._shown:
            return
        self._shown = text
        if self._status is not None:
            self._status.update(f"{self._stage}: {escape(text)}")
        elif not self.console.is_terminal:
            self.say(f"{self._stage}: {text}")

    def say(self, text: str, *, style: str | None = None) -> None:
        """One line for the user to read, whatever the stage."""
        self.console.print(f"  {escape(text)}", style=style, soft_wrap=True, highlight=False)
