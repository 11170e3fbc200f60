// What both pages share: the header, language, theme, the key dialog and the line about the connection.

import { byId, fill, html, write } from "./dom.js";
import { moment } from "./format.js";
import { hasKey, rememberKey } from "./server.js";
import { onLanguage, say, switchLanguage, translate } from "./words.js";

const THEME = "slo-theme";

let reason = ""; // why the key is asked for: a word

/** Build the header of the page `here` (`live` or `similarity`); `onKey` runs when a key was entered. */
export function openShell(here, onKey) {
  const link = (page, address) =>
    html("a", { href: address, "data-word": page, "aria-current": page === here ? "page" : null });
  fill(
    byId("top"),
    html("a", { class: "brand", href: "./" }, html("img", { src: "icon.svg", alt: "", width: 28, height: 28 }),
      html("span", { id: "model" }, "xinference-slo")),
    html("span", { id: "labels", class: "labels" }),
    html("nav", { id: "pages" }, link("live", "./"), link("similarity", "similarity")),
    html("span", { id: "connection", class: "connection", "data-state": "connecting", role: "status" }),
    html("span", { class: "controls" },
      html("button", { id: "key", type: "button", class: "quiet", hidden: true, onclick: () => (hasKey() ? forgetKey() : askForKey()) }),
      html("button", { id: "language", type: "button", class: "quiet", onclick: switchLanguage, "data-word": "language", "data-hint": "languageHint" }),
      html("button", { id: "theme", type: "button", class: "quiet", onclick: switchTheme, "data-word": "theme", "data-hint": "themeHint" })),
  );
  buildKeyDialog(onKey);
  applyTheme(localStorage.getItem(THEME));
  onLanguage(() => {
    translate();
    showKeyButton();
    byId("pages").setAttribute("aria-label", say("pages"));
    document.title = `${say(here)} · ${byId("model").textContent}`;
  });
  showConnection("connecting");
}

/** `connecting`, `connected` or `reconnecting`; a word as well as a colour. */
export function showConnection(state) {
  const line = byId("connection");
  line.dataset.state = state;
  const time = moment(Date.now() / 1000, { seconds: true });
  // The time of the last answer changes every two seconds: that is for eyes, not for a screen reader.
  line.setAttribute("aria-live", state === "connected" ? "off" : "polite");
  write(line, say(state, { time }));
}

/** Model name and labels; the stand-in label comes first and is loud. */
export function showIdentity({ model, labels, standIn }) {
  if (model && byId("model").textContent !== model) {
    byId("model").textContent = model;
    document.title = document.title.replace(/ · .*/, ` · ${model}`);
  }
  const chips = labels.map((text) => html("span", { class: "chip" }, text));
  if (standIn) chips.unshift(html("strong", { class: "chip loud", title: say("standInHint") }, say("standIn")));
  fill(byId("labels"), chips);
}

/** One line of bad news under the header; an empty text takes it away. */
export function showNotice(text) {
  const notice = byId("notice");
  notice.hidden = !text;
  write(notice, text);
}

/** Ask for the key, once at a time; `kind` is that of the failure, if there was one. A refused key is forgotten. */
export function askForKey(kind = null) {
  const dialog = byId("key-dialog");
  reason = kind === "key" ? (hasKey() ? "keyRefused" : "failure.key") : kind && `failure.${kind}`;
  rememberKey("");
  showKeyButton(true);
  write(byId("key-reason"), reason ? say(reason) : "");
  if (!dialog.open) dialog.showModal();
}

/** Forget a key that there is, or give one after the dialog was sent away; nothing where no key is needed. */
function showKeyButton(needed = !byId("key").hidden) {
  byId("key").hidden = !needed && !hasKey();
  write(byId("key"), say(hasKey() ? "keyForget" : "keyTitle"));
}

function buildKeyDialog(onKey) {
  const input = html("input", { id: "key-input", type: "password", autocomplete: "off", spellcheck: "false", required: true });
  const form = html("form", { method: "dialog" },
    html("h2", { id: "key-title", "data-word": "keyTitle" }),
    html("p", { "data-word": "keyHint" }),
    html("label", { for: "key-input", "data-word": "keyLabel" }), input,
    html("p", { id: "key-reason", class: "bad", role: "alert" }),
    html("button", { type: "submit", class: "primary", "data-word": "keyUse" }));
  form.addEventListener("submit", () => {
    rememberKey(input.value.trim());
    input.value = "";
    showKeyButton();
    onKey();
  });
  document.body.append(html("dialog", { id: "key-dialog", "aria-labelledby": "key-title" }, form));
  onLanguage(() => reason && write(byId("key-reason"), say(reason)));
}

function forgetKey() {
  rememberKey("");
  location.reload();
}

function switchTheme() {
  const shown = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  localStorage.setItem(THEME, shown === "dark" ? "light" : "dark");
  applyTheme(localStorage.getItem(THEME));
}

function applyTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}
