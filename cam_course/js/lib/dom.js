// Elements in one call, and what the reader's system asks for.

const SVG_NS = "http://www.w3.org/2000/svg";

function build(node, attrs, children) {
  for (const [name, value] of Object.entries(attrs)) {
    if (value === false || value == null) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** An HTML element: html("button", { type: "button", onclick: f }, "Go"). */
export function html(tag, attrs = {}, ...children) {
  return build(document.createElement(tag), attrs, children);
}

/** An SVG element, in the same way. */
export function svg(tag, attrs = {}, ...children) {
  return build(document.createElementNS(SVG_NS, tag), attrs, children);
}

/** Changes attributes of an existing element; null or false removes one. */
export function attrs(node, changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value == null || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value);
  }
  return node;
}

export const reducedMotion = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

let lastId = 0;
/** An id for aria-labelledby, clip paths and radio groups: unique on the page, also across figures. */
export const uniqueId = () => `cc-${++lastId}-${Math.random().toString(36).slice(2, 8)}`;
