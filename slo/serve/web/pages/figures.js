// What the server says, as the pages want it: milliseconds, ratios, and null for whatever is not known.

// In the order in which a request goes through them. Pauses of the whole process are not among them.
const STAGES = ["parse", "queue", "tokenise", "wait", "infer", "finish", "call", "serialise"];

const number = (value) => (typeof value === "number" && Number.isFinite(value) ? value : null);
const sum = (values) => values.reduce((total, value) => total + value, 0);
const part = (amount, whole) => (whole ? amount / whole : null);

/** `/slo/api/board`: the state of everything now. `before` is the answer that came before this one, or null. */
export function boardFigures(data, before) {
  const { status } = data;
  const objective = { name: data.objective.name, target: data.objective.target, limit: data.objective.threshold_ms };
  return { ...stateFigures(status, before?.status), objective, recent: windowFigures(data.window, objective) };
}

function stateFigures(status, before) {
  const { models } = status;
  const replicas = models.flatMap((model) => model.replicas);
  const engine = replicas[0]?.engine ?? {};
  return {
    model: models[0]?.model ?? null,
    standIn: status.stand_in,
    labels: [engine.engine, engine.precision ?? status.precision, `v${status.version}`].filter(Boolean),
    uptime: status.uptime_s,
    inFlight: status.in_flight,
    queuedTokens: sum(models.flatMap((model) => Object.values(model.queue_tokens))),
    capacity: replicas.length ? sum(models.map((model) => model.capacity.requests_per_s)) : null,
    processes: status.processes.map((process) => ({
      name: process.name,
      cpu: cpuShare(process, before, status.uptime_s),
      memory: number(process.memory_bytes),
      inFull: process.memory_kind === "resident",
    })),
    replicas: [
      ...replicas.map((replica) => ({ name: replica.uid, state: "ready", tokens: replica.tokens })),
      ...models.flatMap((model) => model.absent).map((replica) => ({ name: replica.uid, state: replica.state, tokens: null })),
    ],
  };
}

/** Cores in use between two answers; null for the first one, and after a restart. */
function cpuShare(process, before, uptime) {
  const old = before?.processes.find((other) => other.name === process.name);
  const seconds = uptime - (before?.uptime_s ?? uptime);
  return old && seconds > 0 && process.cpu_s >= old.cpu_s ? (process.cpu_s - old.cpu_s) / seconds : null;
}

function windowFigures(window, objective) {
  const { total, good, cache, passes } = window;
  const lookups = cache.hit + cache.miss;
  const failed = window.codes["5xx"] + window.codes.timeout + (window.codes.gone ?? 0);
  return {
    objective,
    seconds: window.seconds,
    state: total ? window.verdict : "unknown",
    total,
    good,
    failed,
    refused: window.codes["429"],
    own: Object.entries(window.own ?? {}).map(([source, figures]) => ({ source, good: figures.good, total: figures.total })),
    success: part(window.count, total),
    within: part(good, total),
    rate: number(window.rate),
    rateNow: number(window.rate_now),
    p50: number(window.p50_ms),
    p95: number(window.p95_ms),
    p99: number(window.p99_ms),
    low: number(window.p95_low_ms),
    high: number(window.p95_high_ms),
    histogram: { edges: window.histogram.edges_ms, counts: window.histogram.counts },
    stages: STAGES.filter((name) => window.stages[name]?.count)
      .map((name) => ({ name, mean: number(window.stages[name].mean_ms), p95: number(window.stages[name].p95_ms) })),
    truncated: { texts: window.truncated?.texts ?? 0, characters: window.truncated?.characters ?? 0 },
    cacheHits: cache.hit,
    cacheTotal: lookups,
    cacheRatio: part(cache.hit, lookups),
    batchTokens: part(passes.tokens, passes.passes),
    batchTexts: part(passes.texts, passes.passes),
  };
}

/** `/slo/api/history`: how it got here. */
export function historyFigures(data) {
  const { budget } = data;
  return {
    stored: data.source === "store",
    watched: data.watched,
    problem: data.problem ?? "",
    from: data.from_s,
    to: data.to_s,
    step: data.step_s,
    points: data.points.map((point) => pointFigures(point, data)),
    attainment: data.attainment,
    budget: { remaining: budget.remaining, burn: budget.burn, exhaustion: budget.exhaustion_s, period: budget.period_s },
    alerts: [...data.alerts].reverse().map((alert) => ({ state: alert.state, subject: alert.subject, at: alert.at_s, since: alert.since_s })),
    changes: data.changes.map((change) => ({ at: change.at_s, kind: change.kind, detail: change.detail })),
  };
}

function pointFigures(point, { step_s: step, now_s: now }) {
  const length = Math.min(step, now - point.t_s); // the last one is not over yet; a rate needs a third of it
  const slow = point.total > 0 ? Infinity : null; // no percentile although there were requests: none was answered
  return {
    t: point.t_s,
    total: point.total,
    good: point.good,
    success: part(point.total - point.failed, point.total),
    refused: number(point.rejected),
    inFlight: number(point.in_flight),
    rate: length >= step / 3 ? point.total / length : null,
    p50: number(point.p50_ms) ?? slow,
    p95: number(point.p95_ms) ?? slow,
  };
}
