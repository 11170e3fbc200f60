"""
The model as a stage of a launch: running as planned, and answering as it should.

Correct means: the promised dimension, finite values, unit length if the model normalises, and related texts clearly
closer than unrelated ones. The first verdict comes from `PROBES` requests of one client: the fewest that can prove an
objective of P95 at 95 % confidence, plus one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from slo.client import EmbeddingsClient, cosine
from slo.deploy.job import LaunchJob
from slo.deploy.process import ensure_running
from slo.deploy.registration import OPENVINO, POLL_S, STOCK_ENGINE, ModelPlan, launch_body, wait_ready
from slo.deploy.running import ENDED, begin_launch, settled, states_of, stop_model
from slo.deploy.state import ServerState, write_state
from slo.deploy.xinference_api import XinferenceApi
from slo.errors import (
    BadRequest,
    DeployError,
    Refused,
    RegisterError,
    RequestError,
    RequestTimeout,
    ServerFault,
    Unreachable,
    VerifyError,
)
from slo.http import ApiKey
from slo.measure import one_by_one
from slo.model_files import ModelFiles
from slo.objective import Objective
from slo.samples import Summary, summarize
from slo.texts import mix

PROBES = 60
WARMUP = 12
NORM_TOLERANCE = 1e-2  # int8 and float16 answers included; a model that forgets to normalise is off by far more
PROBE_SEED = 60
# What related texts must be closer by. Random weights show 0.06 at most, from the characters that the texts share; the
# narrowest trained model that was seen (multilingual-e5-small) 0.17.
MARGIN = 0.08

# text, a related one, an unrelated one
TRIPLES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "zh": (
        ("今天天气怎么样", "今天的天气好不好", "公司发布第三季度财务报表"),
        ("如何重置登录密码", "忘记登录密码怎么重置", "苹果和香蕉都是水果"),
        ("这家餐厅的菜很好吃", "这家餐厅的饭菜味道很好", "火星探测器进入轨道"),
    ),
    "en": (
        ("how is the weather today", "is the weather good today", "the company filed its quarterly report"),
        ("how do I reset my password", "forgot my password, how to reset it", "apples and bananas are fruit"),
        ("the food in this restaurant is tasty", "this restaurant has very good food", "a probe entered Mars orbit"),
    ),
}
WARM_UP_TIMEOUT_S = 60.0
ENGINE_PROGRESS = re.compile(rb"openvino engine: ([a-z0-9 ]+ \d+ %)")  # as `slo.serve.engine.helper` prints it
# the last line of a traceback: the exception, whom it reached, what it says
LOAD_FAILURE = re.compile(rb"^(?:  \| )?[A-Za-z_][\w.]*: (?:\[address=[^\]]*\] )?(.+)$", re.MULTILINE)
RECORD = re.compile(rb"^\d{4}-\d\d-\d\dT", re.MULTILINE)
CHAINED = re.compile(rb"^(?:  \| )?(?:During handling of the above|The above) exception.*$", re.MULTILINE)
LOOK_BACK = 1 << 18  # bytes of the log's end
ENGINE_REFUSED = "cannot be run on engine"  # Xinference's words
GRACE_S = 3.0  # a process that died is noticed within half a second; until then it counts as ready


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What the model's answers looked like. Similarities are means over the sample triples."""

    dimension: int
    related: float
    unrelated: float


def samples_for(language: Sequence[str]) -> str:
    """The language of the sample texts: the first one that we have any in, else English."""
    return next((name for name in language if name in TRIPLES), "en")


def verify(client: EmbeddingsClient, *, dimension: int, normalizes: bool, language: Sequence[str]) -> Verified:
    """Check one answer. Raises `VerifyError` with what is wrong with it."""
    samples = samples_for(language)
    texts = [text for triple in TRIPLES[samples] for text in triple]
    vectors = client.embed(texts, fresh=True).vectors  # finite and complete, or the client would have refused
    for vector in vectors:
        if len(vector) != dimension:
            raise VerifyError(
                f"{client.model}: wrong dimension: vectors of {len(vector)} numbers, its files promise {dimension}",
                hint="the server runs another model under this name; `--stop`, then launch again",
            )
        norm = math.hypot(*vector)
        if norm == 0 or (normalizes and abs(norm - 1) > NORM_TOLERANCE):
            raise VerifyError(f"{client.model}: a vector has length {norm:.4f} instead of 1")
    related = math.fsum(cosine(vectors[i], vectors[i + 1]) for i in range(0, len(vectors), 3)) * 3 / len(vectors)
    unrelated = math.fsum(cosine(vectors[i], vectors[i + 2]) for i in range(0, len(vectors), 3)) * 3 / len(vectors)
    if not related - unrelated >= MARGIN:
        raise VerifyError(
            f"{client.model}: related texts are hardly closer ({related:.3f}) than unrelated ones ({unrelated:.3f})",
            hint=f"are these trained weights? The sample texts are in {samples!r}; does model.language name what the "
            "model reads?",
        )
    return Verified(dimension=dimension, related=related, unrelated=unrelated)


def first_verdict(client: EmbeddingsClient, objective: Objective, *, dimension: int) -> Summary:
    """Figures over `PROBES` unique mixed texts of one client, after a warm-up that is not counted."""
    texts = mix(PROBE_SEED)
    one_by_one(client, islice(texts, WARMUP), dimension=dimension)
    return summarize("first", one_by_one(client, islice(texts, PROBES), dimension=dimension), objective)


def ensure_model(job: LaunchJob, api: XinferenceApi, state: ServerState, plan: ModelPlan) -> int:
    """The model of `plan` on our server: found, completed, or launched; `make_way` has stopped any other.

    Returns how many replicas are ready: those planned, more if somebody has added some, or fewer where one cannot be
    added to those that serve, which is told.
    """
    if settled(job, api, plan.uid) <= ENDED:
        try:
            start_model(job, api, plan)
        except RegisterError as error:
            raise _with_reason(api, plan, error) from error
    if state.model != plan.to_json():  # a full disk must not forbid to launch again what is recorded already
        write_state(job.config.state_dir, state.with_model(plan.to_json()))
    log = job.config.server.log
    begun = log.stat().st_size if log.exists() else 0
    count = wait_ready(
        api, plan.uid, timeout_s=job.config.server.launch_timeout, clock=job.clock,
        still_running=lambda: ensure_running(state, job.log_offset),
        on_progress=lambda states: job.progress.busy(engine_says(log, begun) or states),
        why=lambda: failure_in(log, begun, plan.uid), step=lambda: engine_says(log, begun),
    )  # fmt: skip
    while count < plan.replicas:  # one was removed, or has been given up
        job.progress.say(f"{count} of {plan.replicas} replicas run: one is added")
        try:
            api.add_replica(plan.uid)
        except (DeployError, RequestError) as error:  # no reason to undo anything: the others serve
            job.progress.say(f"it could not be added: {error.message}", style="bold red")
            break
        job.changed = True
        count += 1
    job.progress.note(f"{plan.engine}, {count} replica{'s' if count > 1 else ''}" + ("" if job.changed else ", was up"))
    return count


def _with_reason(api: XinferenceApi, plan: ModelPlan, error: RegisterError) -> RegisterError:
    """The server's "cannot be run on engine" with the engine's own reason, which it keeps for another request."""
    if ENGINE_REFUSED not in error.message or not (reason := api.refusal(plan.name, plan.engine)):
        return error
    return RegisterError(f"{error.message.rstrip('.')}: {reason}", hint=error.hint)


def engine_says(log: Path, offset: int) -> str:
    """What our engine last wrote about its slow first work (`quantising 40 %`); empty when it has none."""
    found = ENGINE_PROGRESS.findall(_end_of(log, offset))
    return found[-1].decode() + " (once per model)" if found else ""


def failure_in(log: Path, offset: int, uid: str) -> str:
    """Why the model process could not load the model, by the server's log; empty when that does not tell."""
    _, found, story = _end_of(log, offset).rpartition(b"Failed to load model " + uid.encode())
    if not found:
        return ""
    # Of exceptions that led to one another the last was raised.
    said = LOAD_FAILURE.search(CHAINED.split(RECORD.split(story, maxsplit=1)[0])[-1])
    return said.group(1).decode(errors="replace").strip() if said else ""


def _end_of(log: Path, offset: int) -> bytes:
    if not log.exists():
        return b""
    with log.open("rb") as file:
        size = log.stat().st_size
        file.seek(max(offset if offset <= size else 0, size - LOOK_BACK))  # shorter: it has been rotated
        return file.read()


def start_model(job: LaunchJob, api: XinferenceApi, plan: ModelPlan) -> None:
    """Begin to launch the model, to be terminated again if this launch does not end well."""
    job.changed = True
    refused = False

    def undo() -> None:
        if refused:
            return  # what runs there now is not ours to end
        with suppress(DeployError, RequestError):  # nothing more can be done about a server that does not answer
            stop_model(job, api, plan.uid)

    if not job.started:  # else the whole server goes, and faster
        job.undo.callback(undo)
    try:
        begin_launch(job, api, plan.uid, launch_body(plan, job.models_dir))
    except RegisterError:
        refused = True
        raise


def check_answers(
    job: LaunchJob, api: XinferenceApi, plan: ModelPlan, files: ModelFiles, key: ApiKey | None
) -> Summary | None:
    """Verify the model; after a change also measure it for a first verdict."""
    config, progress = job.config, job.progress
    with EmbeddingsClient(
        config.endpoint, plan.uid, api_key=key, timeout_s=WARM_UP_TIMEOUT_S, source="probe"
    ) as client:
        with progress.stage("verify"):
            ours = config.server.endpoint is None
            normalizes = plan.engine in (OPENVINO, STOCK_ENGINE)  # both do, whatever the model's files say
            seen = _verified(job, api, client, files, plan if ours else None, normalizes=normalizes)
            progress.note(
                f"{seen.dimension} dimensions, unit length, related {seen.related:.2f} > unrelated {seen.unrelated:.2f}"
            )
        if not job.changed or job.revive:
            return None
        with progress.stage("measure"):
            first = first_verdict(client, config.slo, dimension=files.dimension)
            progress.note(str(first.judgement))
    return first


def _verified(
    job: LaunchJob, api: XinferenceApi, client: EmbeddingsClient, files: ModelFiles, plan: ModelPlan | None, *,
    normalizes: bool = True,
) -> Verified:  # fmt: skip
    """The verdict on the first answers.

    A model that fails since it has just died is given time to come back. One that counts as ready, was up before this
    launch, and fails all the same, has a process that died unnoticed: it is launched anew, once (`plan`, if allowed).
    """
    failing_since_s: float | None = None
    patience_s = job.clock.monotonic() + job.config.server.launch_timeout
    while True:
        try:
            return verify(client, dimension=files.dimension, normalizes=normalizes, language=job.config.model.language)
        except Refused:  # users' requests have filled the queue: the model is up, and busy
            if job.clock.monotonic() > patience_s:
                raise
            job.progress.busy("refused, the server is busy")
            job.clock.sleep(POLL_S)
        except (ServerFault, BadRequest, RequestTimeout, Unreachable):  # one bad answer undoes nothing
            states = states_of(api, client.model)
            failing_since_s = failing_since_s or job.clock.monotonic()
            if states and states != {"READY"}:
                failing_since_s = None
                _wait(job, api, client.model)
            elif job.clock.monotonic() - failing_since_s > GRACE_S:
                if job.changed or plan is None:
                    raise
                job.progress.say(f"relaunching {plan.uid}: it counts as ready and does not answer", style="yellow")
                stop_model(job, api, plan.uid)
                start_model(job, api, plan)
                _wait(job, api, plan.uid)
                failing_since_s = None
            job.clock.sleep(POLL_S)


def _wait(job: LaunchJob, api: XinferenceApi, uid: str) -> None:
    wait_ready(
        api, uid, timeout_s=job.config.server.launch_timeout, clock=job.clock,
        still_running=lambda: None, on_progress=job.progress.busy,
    )  # fmt: skip
