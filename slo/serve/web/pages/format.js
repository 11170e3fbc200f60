// Numbers for people. Display only: nothing here is ever compared with a limit.

const NONE = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** `8.31`, `42.5`, `148`, `4590`: milliseconds with three figures. An unbounded value (a failure) is ∞. */
export function ms(value) {
  if (value === Infinity) return "∞";
  if (!known(value)) return NONE;
  if (value >= 100) return Math.round(value).toString();
  return value.toFixed(value >= 10 ? 1 : 2);
}

/** `98.70 %`, rounded towards the worse side, so that 99.999 % never reads as 100 %. */
export function percent(ratio, digits = 2) {
  if (!known(ratio)) return NONE;
  if (ratio >= 1) return "100 %";
  const scale = 10 ** digits;
  return `${(Math.floor(ratio * 100 * scale + 1e-9) / scale).toFixed(digits)} %`.replace("-", "−");
}

/** `0.42`, `7.3`, `118`: a rate or a plain count per something. */
export function rate(value) {
  if (!known(value)) return NONE;
  if (value >= 100) return Math.round(value).toString();
  return value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** `12,345` */
export function count(value) {
  return known(value) ? Math.round(value).toLocaleString("en-US") : NONE;
}

/** `1.5 GiB` */
export function bytes(value) {
  if (!known(value)) return NONE;
  let unit = 0;
  while (value >= 1024 && unit < 3) {
    value /= 1024;
    unit += 1;
  }
  return `${unit ? value.toFixed(1) : value} ${["B", "KiB", "MiB", "GiB"][unit]}`;
}

/** `45s`, `12m`, `3h20m`, `2d4h`: the two largest units. */
export function duration(seconds) {
  if (!known(seconds)) return NONE;
  if (seconds < 60) return `${Math.round(seconds)}s`;
  let rest = Math.round(seconds);
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["m", 60], ["s", 1]]) {
    const whole = Math.floor(rest / length);
    rest -= whole * length;
    if (whole) parts.push(`${whole}${unit}`);
  }
  return parts.slice(0, 2).join("");
}

/** `14:05` or `14:05:09` on the reader's own clock; with the date once it is more than a day away. */
export function moment(wallSeconds, { seconds = false, now = Date.now() / 1000 } = {}) {
  if (!known(wallSeconds)) return NONE;
  const date = new Date(wallSeconds * 1000);
  const two = (value) => String(value).padStart(2, "0");
  const time = `${two(date.getHours())}:${two(date.getMinutes())}${seconds ? `:${two(date.getSeconds())}` : ""}`;
  return Math.abs(now - wallSeconds) < 86400 ? time : `${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`;
}
