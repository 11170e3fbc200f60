"""Which process the kernel takes first when memory runs out."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from slo.memory import FIRST_TO_GO, offer_to_oom_killer


def score(pid: int) -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text(encoding="ascii"))


def test_a_process_offers_another_or_itself() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        offer_to_oom_killer(child.pid)
        assert score(child.pid) == FIRST_TO_GO > 0
    code = "from slo.memory import *; offer_to_oom_killer(); print(open('/proc/self/oom_score_adj').read())"
    assert int(subprocess.check_output([sys.executable, "-c", code])) == FIRST_TO_GO


def test_a_process_that_is_gone_is_no_error() -> None:
    offer_to_oom_killer(2**22 - 1)
