// The live page: asks every two seconds, draws what came, and says plainly when nothing comes.

import { distribution, gauge, meter, rows, spark, stageSplit } from "./bars.js";
import { byId, fill, html, write } from "./dom.js";
import { boardFigures, historyFigures } from "./figures.js";
import { bytes, count, duration, moment, ms, percent, rate } from "./format.js";
import { ask, needsKey, poll } from "./server.js";
import { askForKey, openShell, showConnection, showIdentity, showNotice } from "./shell.js";
import { timeline } from "./timeline.js";
import { onLanguage, say, span } from "./words.js";

const PERIOD_MS = 2000;
const SLOW_EVERY = 3; // history: every sixth second is often enough
const RANGES = [900, 3600, 21600, 86400, 604800];
const ATTAINMENT_FROM = 0.8; // where the meters begin: what matters happens near the target
const PROCESSES = ["api", "main", "supervisor", "supervisor + worker", "worker", "fork server", "helpers", "all"];
const MARKS = { met: "✓", missed: "✕", unproven: "?", unknown: "–" };

const seen = { answer: null, board: null, history: null, range: RANGES[0], round: 0 };
const chart = timeline(byId("timeline"));

async function refresh() {
  const asked = [ask("api/board")];
  if (seen.round % SLOW_EVERY === 0) asked.push(ask(`api/history?seconds=${seen.range}`));
  const [board, history] = await Promise.all(asked);
  seen.round += 1;
  seen.board = boardFigures(board.data, seen.answer);
  seen.answer = board.data;
  if (history) seen.history = historyFigures(history.data);
  showConnection("connected");
  showNotice(seen.history.problem);
  draw();
}

function failed(error, failures) {
  showConnection("reconnecting");
  seen.round = 0;
  if (error.kind === "key" || error.kind === "forbidden") {
    askForKey(error.kind);
    return "wait";
  }
  if (!error.kind) showNotice(say("failure.page", { detail: error.message }));
  else if (failures > 1 || error.kind !== "unreachable") showNotice([say(`failure.${error.kind}`), error.detail].filter(Boolean).join(" "));
  return "again";
}

function draw() {
  const { board, history } = seen;
  if (!board) return;
  const { recent } = board;
  showIdentity(board);
  drawHero(recent, board);
  drawTiles(recent, board, history);
  distribution(byId("distribution"), { ...recent.histogram, limit: recent.objective.limit });
  write(byId("distribution-hint"), say("distributionHint", { within: percent(recent.within), ms: recent.objective.limit }));
  stageSplit(byId("stages"), recent.stages);
  drawProcesses(board.processes);
  rows(byId("replicas"), board.replicas.map((replica) => [replica.name, badge(replica.state, say(`state.${replica.state}`)), count(replica.tokens)]), say("nothing"));
  drawHistory(history, recent);
}

function drawHero(recent, board) {
  const { objective, state, p95, low, high } = recent;
  byId("hero").dataset.state = state;
  write(byId("p95-title"), say("p95Now", { window: span(recent.seconds) }));
  write(byId("verdict-mark"), MARKS[state]);
  write(byId("verdict-word"), say(`verdict.${state}`));
  write(byId("p95"), ms(p95));
  const apart = p95 === null ? null : objective.limit - p95;
  write(byId("p95-detail"), [
    apart === null || !Number.isFinite(apart) ? null : say(apart >= 0 ? "headroom" : "excess", { ms: ms(Math.abs(apart)) }),
    low === null ? null : say("interval", { low: ms(low), high: ms(high) }),
  ].filter(Boolean).join(" · "));
  fill(byId("beside"), [["p50", ms(recent.p50)], ["p99", ms(recent.p99)]].map(([name, figure]) =>
    html("div", {}, html("dt", {}, say(name)), html("dd", {}, figure, html("small", {}, " ms")))));
  gauge(byId("gauge"), { p95, low, high, limit: objective.limit, state });
  const sentence = say(`sentence.${state}`, { objective: objective.name, good: count(recent.good), bad: count(recent.total - recent.good), total: count(recent.total) });
  write(byId("sentence"), sentence);
  // Spoken only when the verdict changes: figures that change every two seconds would never let a listener go.
  const line = byId("announcement");
  const spoken = `${state} ${document.documentElement.lang}`;
  if (line.dataset.spoken !== spoken) {
    line.dataset.spoken = spoken;
    write(line, sentence);
  }
  document.title = `${MARKS[state]} ${ms(p95)} ms · ${board.model ?? "SLO"}`;
}

function drawTiles(recent, board, history) {
  const trend = (figure) => history.points.map((point) => point[figure]);
  const capacity = board.capacity === null ? null : say("capacity", { rate: rate(board.capacity) });
  const mean = say("meanRate", { rate: rate(recent.rate), window: span(recent.seconds) });
  const own = recent.own.map(({ source, good, total }) => say(`own.${source}`, { good: count(good), total: count(total) }));
  const { texts: cut, characters } = recent.truncated;
  const unread = cut ? say("truncated", { texts: count(cut), characters: count(characters) }) : "";
  const tiles = [
    ["requestRate", rate(recent.rateNow), say("perSecond"), [mean, capacity, ...own].filter(Boolean).join(" · "), trend("rate")],
    ["success", percent(recent.success), "", say("failed", { failed: count(recent.failed), refused: count(recent.refused) }), trend("success")],
    ["inFlight", count(board.inFlight), "", say("queued", { tokens: count(board.queuedTokens) }), trend("inFlight")],
    ["batch", rate(recent.batchTokens), "", [say("batchTexts", { texts: rate(recent.batchTexts) }), unread].filter(Boolean).join(" · "), []],
    ["cacheHits", percent(recent.cacheRatio, 1), "", say("cacheDetail", { hits: count(recent.cacheHits), total: count(recent.cacheTotal) }), []],
    ["refused", count(recent.refused), "", say("refusedDetail", { window: span(recent.seconds) }), trend("refused")],
  ];
  const box = byId("tiles");
  if (box.children.length !== tiles.length) {
    fill(box, tiles.map(([name]) => html("section", { class: "card tile", id: `tile-${name}` },
      html("h2", {}), html("p", { class: "figure" }, html("span", { class: "number" }), " ", html("small", {})),
      html("p", { class: "hint" }), html("div", { class: "trend" }))));
  }
  tiles.forEach(([name, figure, unit, hint, values]) => {
    const tile = byId(`tile-${name}`);
    write(tile.querySelector("h2"), say(name));
    write(tile.querySelector(".number"), figure);
    write(tile.querySelector("small"), unit);
    write(tile.querySelector(".hint"), hint);
    spark(tile.querySelector(".trend"), values);
  });
  byId("tile-success").querySelector(".number").classList.toggle("bad", recent.success !== null && recent.success < recent.objective.target);
}

function drawHistory(history, recent) {
  const { objective } = recent;
  const shown = { ...history, limit: objective.limit, marks: history.changes.map((change) => ({ t: change.at, text: changeText(change) })) };
  chart.show(shown);
  write(byId("timeline-source"), say(history.stored ? "stored" : "sinceStart"));
  drawRanges();
  fill(byId("attainment"), history.attainment.map((counted) => {
    const { seconds } = counted;
    const { good, total } = seconds === recent.seconds ? recent : counted; // one figure, not two that nearly agree
    const ratio = total ? good / total : NaN;
    const state = total ? (ratio >= objective.target ? "good" : "bad") : "none";
    const label = span(seconds);
    return html("div", {}, html("span", {}, label),
      meter({ label: `${say("attainment")} ${label}`, ratio, low: ATTAINMENT_FROM, target: objective.target, state, text: percent(ratio) }),
      html("span", { class: `value ${state}` }, percent(ratio)));
  }));
  write(byId("attainment-hint"), say("attainmentHint", { ms: objective.limit, target: percent(objective.target) }));
  drawBudget(history.budget);
  drawAlerts(history);
  drawChanges(history);
}

function drawBudget(budget) {
  const { remaining, burn, exhaustion, period } = budget;
  const state = remaining > 0 ? "good" : "bad";
  const outlook = remaining <= 0 ? say("overspent") : exhaustion === null ? say("steady") : say("exhausted", { time: duration(exhaustion) });
  fill(byId("budget"),
    html("div", { class: "budget-line" },
      html("span", {}, html("strong", { class: state }, percent(remaining, 1)), " ", say("budgetLeft")),
      html("span", { title: say("burnHint") }, html("strong", { class: burn > 1 ? "bad" : "good" }, `${rate(burn)}×`), " ", say("burn"))),
    meter({ label: say("budget"), ratio: remaining, state, text: percent(remaining, 1) }),
    html("p", { class: "hint" }, [outlook, period ? say("budgetPeriod", { period: span(period) }) : say("budgetSince")].join(" · ")));
}

function drawAlerts({ alerts, watched }) {
  fill(byId("alerts"), alerts.length
    ? alerts.map((alert) => html("li", {}, badge(alert.state, say(alert.state)), html("span", {}, alertText(alert)), html("time", {}, alertTime(alert))))
    : html("li", {}, html("span", { class: "none" }, say(watched ? "noAlerts" : "noWatcher"))));
}

function drawChanges({ changes }) {
  fill(byId("changes"), changes.slice(-8).reverse().map((change) =>
    html("li", {}, html("span", { class: "badge", "aria-hidden": "true" }, "⚑"), html("span", {}, changeText(change)), html("time", {}, moment(change.at)))));
}

function drawRanges() {
  const box = byId("range");
  box.setAttribute("aria-label", say("range"));
  if (!box.children.length) {
    fill(box, RANGES.map((seconds) => html("button", { type: "button", "data-seconds": seconds, onclick: () => choose(seconds) })));
  }
  for (const button of box.children) {
    const seconds = Number(button.dataset.seconds);
    write(button, span(seconds));
    button.setAttribute("aria-pressed", seconds === seen.range);
  }
}

function choose(seconds) {
  seen.range = seconds;
  seen.round = 0;
  drawRanges();
  again();
}

function changeText({ kind, detail }) {
  return kind === "change" ? detail : [say(`change.${kind}`), detail].filter(Boolean).join(" · ");
}

/** `since 14:05`, or `14:05–14:20` once it is over. */
function alertTime({ state, since, at }) {
  return state === "firing" ? say("since", { time: moment(since) }) : `${moment(since)}–${moment(at)}`;
}

/** `LatencyBudgetBurn/latency/critical` in words: the alert's name, then whatever tells it from its siblings. */
function alertText({ subject }) {
  const [name, ...rest] = subject.split("/");
  return [say(`alert.${name}`), ...rest].filter(Boolean).join(" · ");
}

/** One row each, and the sum where there are several; memory that is counted in full is marked, as it does not add up. */
function drawProcesses(processes) {
  const row = ({ name, cpu, memory, inFull }) => [processName(name), cores(cpu), `${inFull ? "≤ " : ""}${bytes(memory)}`];
  const known = (figure) => processes.map((process) => process[figure]).filter((value) => value !== null);
  const sum = (figure) => (known(figure).length ? known(figure).reduce((total, value) => total + value, 0) : null);
  const all = { name: "all", cpu: sum("cpu"), memory: sum("memory"), inFull: processes.some((process) => process.inFull) };
  rows(byId("processes"), [...processes.map(row), ...(processes.length > 1 ? [row(all).map((cell) => html("strong", {}, cell))] : [])], say("nothing"));
}

/** The server's parts in the reader's language; models by their own name. */
function processName(name) {
  return PROCESSES.includes(name) ? say(`process.${name}`) : name;
}

function cores(share) {
  return share === null ? "–" : `${Math.round(share * 100)} %`;
}

function badge(state, word) {
  return html("span", { class: "badge", "data-state": state }, word);
}

let again = start;
openShell("live", () => again());
onLanguage(draw);
if (await needsKey()) askForKey();
else start();

function start() {
  again = poll(refresh, { period: PERIOD_MS, onFailure: failed });
}
