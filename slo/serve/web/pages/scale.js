// Axes: where a value lies, and which round values get a label.

/** A function from `[low, high]` to pixels `[from, to]`; values outside are held at the ends. */
export function linear(low, high, from, to) {
  const span = high - low || 1;
  return (value) => from + (Math.min(Math.max(value, low), high) - low) / span * (to - from);
}

/** Round values from 0 up to `high`, about `wanted` of them. */
export function ticks(high, wanted = 4) {
  const rough = high / wanted;
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = power * [1, 2, 2.5, 5, 10].find((factor) => factor * power >= rough);
  return Array.from({ length: Math.floor(high / step + 1e-9) + 1 }, (_, i) => i * step);
}

/** Whole minutes, hours or days between two wall times (seconds), at most `most` of them. */
export function timeTicks(from, to, most) {
  const step = [60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400, 172800, 604800]
    .find((seconds) => (to - from) / seconds <= most) ?? 2592000;
  const shift = new Date(from * 1000).getTimezoneOffset() * 60;
  const first = Math.ceil((from - shift) / step) * step + shift;
  const result = [];
  for (let at = first; at <= to; at += step) result.push(at);
  return result;
}
