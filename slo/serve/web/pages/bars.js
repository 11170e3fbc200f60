// Bars: the latency distribution, the split into stages, meters with a target, and small trend lines.

import { fill, html, svg } from "./dom.js";
import { count, ms, percent } from "./format.js";
import { linear } from "./scale.js";
import { say } from "./words.js";

/** Latencies by the edges of the server's histogram; what lies beyond the limit is red and hatched. */
export function distribution(box, { edges, counts, limit }) {
  const width = box.clientWidth;
  const height = box.clientHeight || 220;
  const total = counts.reduce((sum, n) => sum + n, 0);
  const within = counts.filter((_, i) => i < edges.length && edges[i] <= limit).reduce((sum, n) => sum + n, 0);
  const floor = height - 24;
  const x = linear(0, counts.length, 8, width - 8);
  const y = linear(0, Math.max(1, ...counts), floor, 18);
  const column = x(1) - x(0);
  const limitAt = x(edges.filter((edge) => edge <= limit).length);
  const every = Math.ceil(34 / column);
  const limitIndex = edges.indexOf(limit);
  const label = (edge) => (edge >= 1000 ? `${edge / 1000}s` : String(edge));
  fill(box, svg("svg", { class: "distribution", width, height, role: "img", "aria-label": say("distributionLabel", { within: percent(total ? within / total : NaN), ms: limit }) },
    svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("rect", { class: "hatch-ground", width: 6, height: 6 }), svg("line", { class: "hatch-line", y2: 6 }))),
    svg("line", { class: "grid", x1: 8, x2: width - 8, y1: floor, y2: floor }),
    counts.map((n, i) => n > 0 && svg("rect", {
      class: i < edges.length && edges[i] <= limit ? "column good" : "column bad",
      x: x(i) + 1, width: Math.max(1, column - 2), y: Math.min(y(n), floor - 2), height: Math.max(2, floor - y(n)), rx: 2,
    }, svg("title", {}, `${i ? label(edges[i - 1]) : 0}–${i < edges.length ? label(edges[i]) : "∞"} ms: ${count(n)} (${percent(n / total)})`))),
    edges.map((edge, i) => (i === limitIndex || (i % every === limitIndex % every && Math.abs(i - limitIndex) >= every)) &&
      svg("text", { class: i === limitIndex ? "limit-label" : "tick", x: x(i + 1), y: height - 7, "text-anchor": "middle" }, label(edge))),
    svg("line", { class: "limit", x1: limitAt, x2: limitAt, y1: 6, y2: floor }),
    total === 0 && svg("text", { class: "empty", x: width / 2, y: height / 2, "text-anchor": "middle" }, say("noPoints")),
  ));
}

/** Mean time per stage as one bar, and a list with the figures. */
export function stageSplit(box, stages) {
  const total = stages.reduce((sum, stage) => sum + (stage.mean || 0), 0);
  if (!total) return fill(box, html("p", { class: "none" }, say("noPoints")));
  const bar = html("div", { class: "stages", "aria-hidden": "true" });
  stages.forEach((stage, i) => {
    const part = html("span", { class: `part hue-${i % 8}` });
    part.style.flexGrow = String(stage.mean / total);
    bar.append(part);
  });
  const rows = stages.map((stage, i) => html("li", {},
    html("span", { class: `swatch hue-${i % 8}` }), html("span", { class: "name" }, say(`stage.${stage.name}`)),
    html("span", { class: "figure" }, `${ms(stage.mean)} ms`),
    html("span", { class: "share" }, stage.p95 === null ? percent(stage.mean / total, 0) : `P95 ${ms(stage.p95)}`)));
  return fill(box, bar, html("ul", { class: "legend" }, rows));
}

/** A horizontal meter from `low` to 1 with a tick at the target. The value is also there as text. */
export function meter({ label, ratio, low = 0, target = null, state, text }) {
  const known = Number.isFinite(ratio);
  const level = html("span", { class: "level" });
  level.style.width = `${known ? linear(low, 1, 0, 100)(ratio) : 0}%`;
  const track = html("div", { class: "meter", "data-state": state, role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": 1, "aria-valuenow": known ? ratio : 0, "aria-valuetext": text }, level);
  if (target !== null) {
    const tick = html("span", { class: "target" });
    tick.style.left = `${linear(low, 1, 0, 100)(target)}%`;
    track.append(tick);
  }
  return track;
}

/** The last values of one figure as a small line, without axes. */
export function spark(box, values) {
  const known = values.filter(Number.isFinite);
  if (known.length < 2) return fill(box);
  const width = box.clientWidth || 120;
  const x = linear(0, Math.max(1, values.length - 1), 1, width - 1);
  const y = linear(Math.min(0, ...known), Math.max(...known, 1e-9), 25, 3);
  const d = values.map((value, i) => (Number.isFinite(value) ? `${i && Number.isFinite(values[i - 1]) ? "L" : "M"}${x(i).toFixed(1)} ${y(value).toFixed(1)}` : "")).join("");
  return fill(box, svg("svg", { width, height: 28, "aria-hidden": "true" }, svg("path", { d, class: "spark" })));
}

/** The big scale under the P95: up to twice the limit, the interval as a band, the value as a needle. */
export function gauge(box, { p95, low, high, limit, state }) {
  const width = box.clientWidth;
  const top = Math.max(limit * 2, Number.isFinite(p95) ? p95 * 1.15 : 0);
  const x = linear(0, top, 2, width - 2);
  const known = p95 !== null && !Number.isNaN(p95);
  fill(box, svg("svg", { class: "gauge", width, height: 46, "data-state": state, "aria-hidden": "true" },
    svg("rect", { class: "zone within", x: 2, y: 12, width: x(limit) - 2, height: 12, rx: 3 }),
    svg("rect", { class: "zone beyond", x: x(limit), y: 12, width: width - 2 - x(limit), height: 12, rx: 3 }),
    known && low !== null && svg("rect", { class: "band", x: x(low), y: 9, width: Math.max(3, x(high ?? top) - x(low)), height: 18, rx: 3 }),
    known && svg("line", { class: "needle", x1: x(p95), x2: x(p95), y1: 4, y2: 32 }),
    svg("line", { class: "limit", x1: x(limit), x2: x(limit), y1: 4, y2: 32 }),
    svg("text", { class: "tick", x: 2, y: 44 }, "0"),
    svg("text", { class: "limit-label", x: x(limit), y: 44, "text-anchor": "middle" }, `${limit} ms`),
    svg("text", { class: "tick", x: width - 2, y: 44, "text-anchor": "end" }, `${Math.round(top)} ms`),
  ));
}

/** A table body; an empty one says so in a single row. */
export function rows(body, entries, empty) {
  const columns = body.closest("table").querySelectorAll("thead th").length;
  fill(body, entries.length
    ? entries.map((cells) => html("tr", {}, cells.map((cell, i) => html(i ? "td" : "th", i ? {} : { scope: "row" }, cell))))
    : html("tr", {}, html("td", { colspan: columns, class: "none" }, empty)));
}

