// Building elements without innerHTML: whatever the server or a user sent stays text.

const SVG = "http://www.w3.org/2000/svg";

/** The element with this id; a misspelt id is an error at once. */
export function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element #${id}`);
  return found;
}

/** An HTML element with attributes and children (strings become text; null and false are left out). */
export function html(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

/** Replace all children. */
export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter(present));
}

/** Set the text only when it changes: untouched nodes cost no layout and no announcement. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (present(value)) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter(present));
  return element;
}

function present(value) {
  return value !== null && value !== undefined && value !== false;
}
