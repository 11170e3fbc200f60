"""Which test files run in the same process, one after the other: those that share a server."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadFileScheduling


class ByServer(LoadFileScheduling):  # type: ignore[misc]
    """
    A file goes to one process whole, and all files that share a server of the session to the same one.

    The process that hands tests out imports none, so marks are read from the text. (xdist's own `xdist_group` is lost:
    it writes to `Item._nodeid`, which pytest 9.2 does not read.)
    """

    def _split_scope(self, nodeid: str) -> str:
        return shared_by(self.config.rootpath / nodeid.split("::", 1)[0])


@cache
def shared_by(file: Path) -> str:
    """What `pytestmark` of the file says that it shares, else the file itself."""
    found = re.search(r'^pytestmark = .*\bshares\("(.+?)"\)', file.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else str(file)
