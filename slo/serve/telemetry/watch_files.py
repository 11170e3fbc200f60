"""
What `slo watch` tells Prometheus, passed on by the server that it watches: one address to scrape has both.

The watch writes its figures into files of the state directory. The sign of life is there from the start, as 0, so that
a watch that never ran is missed as well.
"""

from __future__ import annotations

from pathlib import Path

FILES = ("watcher.prom", "notifications.prom")
ALIVE = "slo_watcher_last_success_timestamp_seconds"
MOST_BYTES = 64 * 1024
_OURS = ("slo_watcher_", "slo_alert_")


def watch_metrics(folder: Path) -> bytes:
    """The metrics of the files in `folder`, and nothing else that may stand in them."""
    lines: list[str] = []
    for name in FILES:
        try:
            with (folder / name).open("rb") as file:
                text = file.read(MOST_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        # A line that was cut off, or is no metric of the watch, would spoil the whole page.
        lines += [line for line in text.rpartition("\n")[0].splitlines() if _is_ours(line)]
    if not any(line.startswith(ALIVE) for line in lines):
        lines += [f"# TYPE {ALIVE} gauge", f"{ALIVE} 0"]
    return "".join(f"{line}\n" for line in lines).encode()


def _is_ours(line: str) -> bool:
    words = line.split(" ", 3)
    name = words[2] if words[0] == "#" and len(words) > 2 else words[0]
    return name.startswith(_OURS) and len(words) > 1
