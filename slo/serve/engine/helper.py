"""
Conversion and quantisation in a process of their own: `python -m slo.serve.engine.helper MODEL CACHE PRECISION`.

The serving process stays small that way: torch, transformers and NNCF would otherwise stay in its memory for good.
The helper ends with whoever waits for it (`slo.tied`): a launch that is broken off leaves no quantiser at work.
Progress goes to stderr; an expected failure comes back on stdout as one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from slo.errors import ModelSourceError, QuantizeError, SloError
from slo.serve.engine.artefacts import Progress
from slo.serve.engine.loading import Workshop
from slo.tied import tied_command

LAST_LINES = 12


def make_in_helper(directory: Path, cache: Path, precision: str) -> None:
    """Make what is missing and return when it is there. Raises what the helper raised."""
    command = tied_command("slo.serve.engine.helper", str(directory), str(cache), precision)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8")
    assert process.stderr is not None and process.stdout is not None  # noqa: S101 - both were asked for
    tail: list[str] = []
    with process:
        for line in process.stderr:
            tail = [*tail, line.rstrip()][-LAST_LINES:]
            print(line, end="", file=sys.stderr, flush=True)  # noqa: T201 - the server's log
        answer = process.stdout.read()
    if process.returncode == 0:
        return
    if process.returncode == SloError.exit_code and answer:
        failure = json.loads(answer)
        kind = ModelSourceError if failure["kind"] == ModelSourceError.__name__ else QuantizeError
        raise kind(failure["message"], hint=failure["hint"])
    raise QuantizeError(
        f"the quantiser ended with code {process.returncode}: {' | '.join(tail) or 'no output'}",
        hint="-9 means that memory ran out; --precision fp32 needs the least",
    )


def log_progress() -> Progress:
    """Progress as lines on stderr, the server's log; a line that says nothing new is left out."""
    last = ""

    def progress(stage: str, share: float) -> None:
        nonlocal last
        line = f"{stage} {10 * round(share * 10)} %"
        if line != last:
            print(f"openvino engine: {line}", file=sys.stderr, flush=True)  # noqa: T201
            last = line

    return progress


def report_failure(error: SloError) -> int:
    """Hand an expected failure to the parent process; the exit code that goes with it."""
    failure = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
    print(json.dumps(failure))  # noqa: T201
    return SloError.exit_code


def main(arguments: list[str]) -> int:
    """Make the graph for a precision and judge it. 0, or 2 after an expected failure."""
    directory, cache, precision = arguments
    try:
        choice = Workshop(Path(directory), Path(cache), progress=log_progress()).choose(precision)
    except SloError as error:
        return report_failure(error)
    print(f"openvino engine: {choice.precision}, because {choice.reason}", file=sys.stderr, flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
