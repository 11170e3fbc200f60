// The similarity page: texts in, one call to the server's own /v1/embeddings, scores and a heat map out.
// Texts live in this tab's memory only: they are never put into an address, a store or a log.

import { meter } from "./bars.js";
import { allPairs } from "./cosine.js";
import { byId, fill, html, write } from "./dom.js";
import { EXAMPLES } from "./examples.js";
import { boardFigures } from "./figures.js";
import { count, ms } from "./format.js";
import { ask, needsKey } from "./server.js";
import { askForKey, openShell, showConnection, showIdentity, showNotice } from "./shell.js";
import { onLanguage, say } from "./words.js";

const MOST = 64;
const HEATMAP_MOST = 16;

const seen = { board: null, result: null, problem: null };

async function identify() {
  try {
    const { data } = await ask("api/board");
    seen.board = boardFigures(data, null);
    showIdentity(seen.board);
    showConnection("connected");
    showNotice("");
  } catch (error) {
    showConnection("reconnecting");
    if (error.kind === "key" || error.kind === "forbidden") askForKey(error.kind);
    else showNotice(explain(error));
  }
}

/** What is typed: text A first, then the lines of B. */
function typed() {
  const a = byId("text-a").value.trim();
  const lines = byId("text-b").value.split("\n").map((line) => line.trim()).filter(Boolean);
  return { a, lines };
}

async function compare() {
  const { a, lines } = typed();
  if (!a || !lines.length) return showProblem(() => say("needTexts"));
  if (lines.length > MOST) return showProblem(() => say("tooMany", { most: MOST, extra: lines.length - MOST }));
  if (!seen.board) await identify();
  if (!seen.board?.model) return showProblem(() => say("noModel"));
  showProblem(null);
  busy(true);
  const texts = [a, ...lines];
  const started = performance.now();
  try {
    const { data, headers } = await ask("/v1/embeddings", { body: { model: seen.board.model, input: texts } });
    const took = performance.now() - started;
    const vectors = [...data.data].sort((x, y) => x.index - y.index).map((row) => row.embedding);
    const cached = (headers.get("Cache-Status") ?? "").includes("; hit");
    seen.result = { texts, took, cached, tokens: data.usage?.total_tokens, matrix: allPairs(vectors) };
    showConnection("connected");
  } catch (error) {
    seen.result = null;
    if (error.kind === "key") askForKey(error.kind);
    showProblem(() => explain(error));
  }
  busy(false);
  return draw();
}

function explain(error) {
  if (!error.kind) return say("failure.page", { detail: error.message });
  const wait = error.retryAfter ? say("retryIn", { seconds: Math.ceil(error.retryAfter) }) : "";
  return [say(`failure.${error.kind}`), wait, error.detail && `(${error.detail})`].filter(Boolean).join(" ");
}

function showProblem(words) {
  seen.problem = words;
  byId("problem").hidden = !words;
  write(byId("problem"), words ? words() : "");
}

function busy(yes) {
  byId("compare").disabled = yes;
  byId("compare").dataset.word = yes ? "comparing" : "compare";
  write(byId("compare"), say(yes ? "comparing" : "compare"));
}

function draw() {
  write(byId("text-b-label"), say("textB", { most: MOST }));
  fill(byId("examples"), EXAMPLES.map((example) => html("button", { type: "button", onclick: () => pick(example) },
    html("span", { class: "badge", "data-kind": example.kind }, say(`examples.${example.kind}`)),
    example.b.length > 1 ? `${example.a} ⇢ ${example.b.length}` : `${example.a} ⇄ ${example.b[0]}`)));
  if (seen.problem) showProblem(seen.problem);
  const { result } = seen;
  for (const part of ["answer", "pairs"]) byId(part).hidden = !result;
  if (!result) return;
  const scores = result.matrix[0].slice(1);
  write(byId("answer-title"), say(scores.length > 1 ? "ranking" : "score"));
  drawTook(result);
  write(byId("meaning"), say(seen.board.standIn ? "scoreStandIn" : "scoreHint"));
  byId("score").hidden = scores.length > 1;
  byId("ranking").hidden = scores.length < 2;
  if (scores.length > 1) drawRanking(result.texts.slice(1), scores);
  else drawScore(scores[0]);
  byId("pairs").hidden = result.texts.length < 3 || result.texts.length > HEATMAP_MOST;
  if (!byId("pairs").hidden) drawHeatmap(result);
}

function drawTook({ took, texts, tokens, cached }) {
  const limit = seen.board.objective.limit;
  const within = took <= limit;
  fill(byId("took"), say("callTook", { ms: ms(took), texts: texts.length, tokens: count(tokens) }), " ",
    html("strong", { class: within ? "good" : "bad" }, `${within ? "✓" : "✕"} ${say(within ? "withinLimit" : "beyondLimit", { limit })}`),
    cached ? ` · ${say("callCached")}` : "");
}

function drawScore(score) {
  fill(byId("score"), html("span", { class: "number" }, score.toFixed(4)), html("span", { class: "level-word" }, seen.board.standIn ? "" : level(score)),
    meter({ label: say("score"), ratio: score, state: "good", text: score.toFixed(4) }));
}

function drawRanking(texts, scores) {
  const order = scores.map((score, i) => ({ score, text: texts[i] })).sort((x, y) => y.score - x.score);
  fill(byId("ranking"), order.map(({ score, text }, i) => html("li", {},
    html("span", { class: "place" }, String(i + 1)), html("span", { class: "text" }, text),
    meter({ label: text, ratio: score, state: "good", text: score.toFixed(4) }), html("span", { class: "value" }, score.toFixed(3)))));
}

function drawHeatmap({ texts, matrix }) {
  const name = (i) => (i ? `B${i}` : "A");
  const values = matrix.flatMap((row, i) => row.filter((_, j) => j !== i));
  const low = Math.min(...values);
  const high = Math.max(...values, low + 1e-6);
  byId("heatmap").setAttribute("aria-label", say("heatmap"));
  fill(byId("heatmap"), html("table", { class: "heatmap" },
    html("thead", {}, html("tr", {}, html("td", {}), texts.map((_, i) => html("th", { scope: "col" }, name(i))))),
    html("tbody", {}, matrix.map((row, i) => html("tr", {},
      html("th", { scope: "row", title: texts[i] }, `${name(i)} · ${texts[i]}`),
      row.map((value, j) => heat(value, i === j ? 1 : (value - low) / (high - low))))))));
}

/**
 * One cell: from the card's own colour to the accent. Half-strong colours, on which neither light nor dark figures can
 * be read, are skipped.
 */
function heat(value, share) {
  const cell = html("td", {}, value.toFixed(2));
  const strong = share > 0.7;
  const strength = strong ? 88 + (share - 0.7) * 40 : 6 + share * 70;
  cell.style.background = `color-mix(in srgb, var(--accent) ${Math.round(strength)}%, var(--card))`;
  cell.style.color = strong ? "var(--on-strong)" : "var(--ink)";
  return cell;
}

function level(score) {
  return say(score > 0.97 ? "level.same" : score > 0.85 ? "level.close" : score > 0.7 ? "level.related" : "level.far");
}

function pick({ a, b }) {
  byId("text-a").value = a;
  byId("text-b").value = b.join("\n");
  compare();
}

function clear() {
  for (const id of ["text-a", "text-b"]) byId(id).value = "";
  seen.result = null;
  showProblem(null);
  draw();
  byId("text-a").focus();
}

openShell("similarity", identify);
onLanguage(draw);
byId("compare").addEventListener("click", compare);
byId("clear").addEventListener("click", clear);
for (const id of ["text-a", "text-b"]) {
  byId(id).addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) compare();
  });
}
if (await needsKey()) askForKey();
else identify();
