"""
New files prove themselves before a model that serves is stopped for them.

The proof runs in a process of its own (`slo.serve.engine.rehearsal`), with this Python, as the server's processes do.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from typing import Any

from slo.deploy.job import Job
from slo.deploy.plan import without_secrets
from slo.deploy.registration import POLL_S, ModelPlan
from slo.errors import DeployError, SloError

PROGRAM = "slo.serve.engine.rehearsal"
PROGRESS = re.compile(r"openvino engine: ([a-z0-9 ]+ \d+ %)")  # as `slo.serve.engine.helper` prints it
TAIL_CHARACTERS = 600


def prove(job: Job, plan: ModelPlan) -> None:
    """Load the files of `plan` and embed a few texts with them, beside the model that serves.

    Takes as long as a first start: conversion and quantisation included. Raises `DeployError` with what is wrong, if
    anything is, or if it takes longer than `server.launch_timeout`.
    """
    command = [
        sys.executable, "-m", PROGRAM, plan.engine, plan.device, plan.precision or "auto", plan.directory,
        str(job.models_dir),
    ]  # fmt: skip
    environment = without_secrets(os.environ)
    with tempfile.TemporaryFile("w+", encoding="utf-8") as out, tempfile.TemporaryFile("w+", encoding="utf-8") as said:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=said, env={**environment, "HF_HUB_OFFLINE": "1"}
        )
        try:
            code = _wait(job, process, said)
        finally:  # a process that ended already is not signalled
            process.kill()
            process.wait()
        out.seek(0)
        said.seek(0)
        answer, log = out.read(), said.read()
    if code == 0:
        dimension = int(answer.split()[-1])
        if dimension not in (-1, plan.dimension):
            raise DeployError(f"{plan.directory}: vectors of {dimension} numbers, its files promise {plan.dimension}")
        return
    if code == SloError.exit_code and answer:
        failure: dict[str, Any] = json.loads(answer.splitlines()[-1])
        raise DeployError(failure["message"], hint=failure["hint"])
    tail = " | ".join(line.strip() for line in log.splitlines() if line.strip())[-TAIL_CHARACTERS:]
    raise DeployError(
        f"{plan.directory}: the trial run ended with code {code}: {tail or 'no output'}",
        hint="-9 means that memory ran out: there is no room for both models at once; stop the old one first"
        if code == -9
        else None,
    )


def _wait(job: Job, process: subprocess.Popen[bytes], said: Any) -> int:
    deadline_s = job.clock.monotonic() + job.config.server.launch_timeout
    while (code := process.poll()) is None:
        if job.clock.monotonic() > deadline_s:
            raise DeployError(
                f"the trial run of the new files is not done after {job.config.server.launch_timeout:g} s",
                hint="`slo quantize` does the slow part ahead, or raise server.launch_timeout",
            )
        job.progress.busy(_last(said) or "trying the new files beside the model that serves")
        job.clock.sleep(POLL_S)
    return code


def _last(said: Any) -> str:
    """What the trial last wrote about its slow work."""
    text = os.pread(said.fileno(), 1 << 16, max(0, os.fstat(said.fileno()).st_size - (1 << 16)))
    found = PROGRESS.findall(text.decode("utf-8", errors="replace"))
    return f"{found[-1]} (once per model)" if found else ""
