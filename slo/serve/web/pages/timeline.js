// P95 and P50 over time with the limit, requests below, changes as flags. Pointer and arrow keys read single points.

import { fill, html, svg, write } from "./dom.js";
import { count, moment, ms } from "./format.js";
import { linear, ticks, timeTicks } from "./scale.js";
import { say, span } from "./words.js";

const LEFT = 44, RIGHT = 12, TOP = 22, AXIS = 22, STRIP = 42, GAP = 24, LABEL = 18;

/** A chart inside `box` with a method `show`; it draws itself again when the box changes its width. */
export function timeline(box) {
  const drawing = svg("svg", { class: "timeline", role: "img", tabindex: 0 });
  const tip = html("div", { class: "tip", hidden: true, role: "status" });
  fill(box, drawing, tip);
  let shown = null;
  let chosen = -1;
  let layout = null;

  function show(data) {
    shown = data;
    layout = draw(drawing, box.clientWidth, box.clientHeight || 300, data);
    drawing.setAttribute("aria-label", say("timelineLabel", { ms: ms(data.limit), p95: ms(data.points.at(-1)?.p95) }));
    if (chosen >= 0) point(Math.min(chosen, data.points.length - 1));
  }

  function point(index) {
    chosen = index;
    const here = shown?.points[index];
    tip.hidden = !here;
    layout?.cursor(here);
    if (!here) return;
    const changed = shown.marks.filter((mark) => Math.abs(mark.t - here.t) <= shown.step / 2).map((mark) => mark.text);
    const line = here.total
      ? `P95 ${ms(here.p95)} ms · P50 ${ms(here.p50)} ms · ${say("requests", { count: count(here.total) })}`
      : say("noPoints");
    write(tip, [moment(here.t, { seconds: shown.step < 60 }), line, ...changed].join(" · "));
    const x = layout.x(here.t);
    tip.style.left = `${Math.min(Math.max(x - tip.offsetWidth / 2, 4), box.clientWidth - tip.offsetWidth - 4)}px`;
  }

  drawing.addEventListener("pointermove", (event) => {
    if (!layout || !shown.points.length) return;
    const x = event.clientX - drawing.getBoundingClientRect().left;
    const distances = shown.points.map((p) => Math.abs(layout.x(p.t) - x));
    point(distances.indexOf(Math.min(...distances)));
  });
  for (const leave of ["pointerleave", "blur"]) drawing.addEventListener(leave, () => point(-1));
  drawing.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") point(-1);
    if (!step || !shown?.points.length) return;
    event.preventDefault();
    const last = shown.points.length - 1;
    point(chosen < 0 ? last : Math.min(Math.max(chosen + step, 0), last));
  });
  new ResizeObserver(() => shown && show(shown)).observe(box);
  return { show };
}

function draw(drawing, width, height, { points, limit, marks, from, to, step }) {
  const floor = height - AXIS - STRIP - GAP;
  const slowest = Math.max(0, ...points.map((p) => p.p95).filter(Number.isFinite));
  const high = Math.min(Math.max(limit * 1.35, slowest * 1.1), limit * 8);
  const x = linear(from, to, LEFT, width - RIGHT);
  const y = linear(0, high, floor, TOP);
  const most = Math.max(0, ...points.map((p) => p.total));
  const strip = linear(0, Math.max(1, most), height - AXIS, height - AXIS - STRIP);
  const limitAt = y(limit);
  const p95 = path(points, x, y, "p95");
  drawing.setAttribute("width", width);
  drawing.setAttribute("height", height);
  const cursor = svg("line", { class: "cursor", y1: TOP, y2: height - AXIS, visibility: "hidden" });
  const dot = svg("circle", { class: "dot", r: 4, visibility: "hidden" });
  const labels = ticks(high).filter((value) => Math.abs(y(value) - limitAt) > 13);
  fill(
    drawing,
    svg("clipPath", { id: "over" }, svg("rect", { x: LEFT, y: 0, width: Math.max(0, width - LEFT), height: limitAt })),
    svg("clipPath", { id: "under" }, svg("rect", { x: LEFT, y: limitAt, width: Math.max(0, width - LEFT), height: floor - limitAt + 2 })),
    svg("rect", { class: "beyond", x: LEFT, y: TOP, width: Math.max(0, width - LEFT - RIGHT), height: Math.max(0, limitAt - TOP) }),
    labels.map((value) => [
      svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(value), y2: y(value) }),
      svg("text", { class: "tick", x: LEFT - 7, y: y(value) + 4, "text-anchor": "end" }, String(value)),
    ]),
    timeTicks(from, to, Math.max(2, Math.floor(width / 75))).map((at) => [
      svg("line", { class: "grid", x1: x(at), x2: x(at), y1: height - AXIS, y2: height - AXIS + 4 }),
      svg("text", { class: "tick", x: Math.min(x(at), width - LABEL), y: height - 6, "text-anchor": "middle" }, moment(at, { now: to })),
    ]),
    bars(points, x, strip, height - AXIS, from, to),
    svg("text", { class: "tick", x: LEFT, y: height - AXIS - STRIP - 5 }, say("traffic", { count: count(most), step: span(step) })),
    svg("path", { class: "p50", d: path(points, x, y, "p50") }),
    svg("path", { class: "p95", d: p95, "clip-path": "url(#under)" }),
    svg("path", { class: "p95 late", d: p95, "clip-path": "url(#over)" }),
    svg("line", { class: "limit", x1: LEFT, x2: width - RIGHT, y1: limitAt, y2: limitAt }),
    svg("text", { class: "limit-label", x: width - RIGHT - 4, y: limitAt - 6, "text-anchor": "end" }, say("limit", { ms: limit })),
    svg("text", { class: "limit-label", x: LEFT - 7, y: limitAt + 4, "text-anchor": "end" }, String(limit)),
    marks.filter((mark) => mark.t >= from && mark.t <= to).map((mark) =>
      svg("g", { class: "mark" },
        svg("line", { x1: x(mark.t), x2: x(mark.t), y1: TOP - 8, y2: floor }),
        svg("path", { d: `M${x(mark.t)} ${TOP - 8}h9l-3 4 3 4h-9z` }),
        svg("title", {}, `${moment(mark.t)} ${mark.text}`))),
    cursor, dot,
    points.some((p) => p.total) ? null
      : svg("text", { class: "empty", x: (LEFT + width) / 2, y: (TOP + floor) / 2, "text-anchor": "middle" }, say("noPoints")),
  );
  return {
    x,
    cursor(here) {
      for (const part of [cursor, dot]) part.setAttribute("visibility", here ? "visible" : "hidden");
      if (!here) return;
      cursor.setAttribute("x1", x(here.t));
      cursor.setAttribute("x2", x(here.t));
      dot.setAttribute("cx", x(here.t));
      dot.setAttribute("cy", y(here.total ? here.p95 : 0));
    },
  };
}

/** The line through one figure; a moment without requests breaks it, one alone becomes a short dash. */
function path(points, x, y, figure) {
  let d = "";
  let open = false;
  for (const point of points) {
    const drawn = point.total > 0 && point[figure] !== null;
    if (drawn) d += open ? `L${x(point.t).toFixed(1)} ${y(point[figure]).toFixed(1)}` : `M${x(point.t).toFixed(1)} ${y(point[figure]).toFixed(1)}h.1`;
    open = drawn;
  }
  return d;
}

/** Requests per point, late or failed ones on top. */
function bars(points, x, strip, base, from, to) {
  const step = points.length > 1 ? x(points[1].t) - x(points[0].t) : (x(to) - x(from)) / 60;
  const width = Math.max(1, Math.min(14, step * 0.72));
  let good = "";
  let bad = "";
  for (const { t, total, good: within } of points.filter((point) => point.total)) {
    const left = (x(t) - width / 2).toFixed(1);
    const top = strip(total);
    const split = strip(within);
    if (within) good += `M${left} ${base}V${split.toFixed(1)}h${width.toFixed(1)}V${base}z`;
    if (within < total) bad += `M${left} ${split.toFixed(1)}V${top.toFixed(1)}h${width.toFixed(1)}V${split.toFixed(1)}z`;
  }
  return [svg("path", { class: "bar good", d: good }), svg("path", { class: "bar bad", d: bad })];
}
