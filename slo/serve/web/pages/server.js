// One way to the server: same origin, the key (if there is one) only in a header and only for this tab.
// A key of characters that no header can carry is not sent: no server could have given it out.

const KEY = "slo-key";
const SENDABLE = /^[\x21-\x7e]+$/;

/** Something the server, or nobody, answered. `kind` names it for the dictionary. */
class Failure extends Error {
  constructor(kind, { status = 0, detail = "", retryAfter = null } = {}) {
    super(`${kind} ${status} ${detail}`.trim());
    Object.assign(this, { kind, status, detail, retryAfter });
  }
}

export function rememberKey(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export function hasKey() {
  return Boolean(sessionStorage.getItem(KEY));
}

/** Parsed JSON from a path below the page's own folder (`api/window`) or the origin (`/v1/embeddings`). */
export async function ask(path, { body, timeout = 10_000 } = {}) {
  const headers = { Accept: "application/json" };
  const key = sessionStorage.getItem(KEY);
  if (key && !SENDABLE.test(key)) throw new Failure("key");
  if (key) headers.Authorization = `Bearer ${key}`;
  if (body) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method: body ? "POST" : "GET",
      headers,
      body: body ? JSON.stringify(body) : undefined,
      cache: "no-store",
      credentials: "same-origin",
      redirect: "error",
      signal: AbortSignal.timeout(timeout),
    });
  } catch (error) {
    throw new Failure(error.name === "TimeoutError" ? "timeout" : "unreachable");
  }
  const data = await response.json().catch(() => null);
  if (!response.ok) throw failure(response, data);
  if (data === null) throw new Failure("unreadable", { status: response.status });
  return { data, headers: response.headers };
}

/** Must a key be given first? The host tells everybody; where it does not, the first refusal will. */
export async function needsKey() {
  if (hasKey()) return false;
  return ask("/v1/cluster/auth").then(({ data }) => data.auth === true, () => false);
}

function failure(response, data) {
  const { status } = response;
  const said = data?.error?.message ?? data?.detail ?? "";
  const detail = (typeof said === "string" ? said : JSON.stringify(said)).slice(0, 300);
  const retryAfter = Number(response.headers.get("Retry-After")) || null;
  const kind = { 401: "key", 403: "forbidden", 404: "missing", 413: "large", 422: "invalid", 429: "busy" }[status];
  return new Failure(kind ?? (status >= 500 ? "fault" : "invalid"), { status, detail, retryAfter });
}

/**
 * Call `work` every `period` ms, and no faster than it answers. After a failure wait twice as long each time, up to
 * 15 s, and tell `onFailure`; if that says "wait", nothing is asked until the result is called. A hidden tab does not
 * ask at all; it asks at once when it is seen again.
 */
export function poll(work, { period, onFailure }) {
  let timer = null;
  let failures = 0;
  let running = false;
  let waiting = false;
  async function round() {
    clearTimeout(timer);
    if (running || document.hidden) return;
    running = true;
    waiting = false;
    try {
      await work();
      failures = 0;
    } catch (error) {
      failures += 1;
      waiting = onFailure(error, failures) === "wait";
    }
    running = false;
    if (waiting) return;
    const wait = failures ? Math.min(15_000, period * 2 ** (failures - 1)) : period;
    timer = setTimeout(round, wait);
  }
  for (const [target, event] of [[document, "visibilitychange"], [window, "online"]]) {
    target.addEventListener(event, () => waiting || round());
  }
  round();
  return round;
}
