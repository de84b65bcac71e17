// A plot that is described anew at each drawing: marks are named, those not named again disappear.
import { attrs, html, svg, uniqueId } from "./dom.js";
import { logTicks, makeScale, niceTicks, shortNumber, spread } from "../math/scale.js";

const color = (c) => (typeof c === "number" ? `var(--c${c})` : c.startsWith("--") ? `var(${c})` : c);
const px = (v) => v.toFixed(1);

/** The `d` of a polyline through [[x, y], ...] in pixels; a value that is not finite interrupts it. */
export function pathOf(points) {
  let d = "", pen = "M";
  for (const [x, y] of points) {
    if (!Number.isFinite(x) || !Number.isFinite(y)) { pen = "M"; continue; }
    d += `${pen}${px(x)} ${px(y)}`;
    pen = "L";
  }
  return d;
}

/** Places for `count` plots: side by side when there is room, stacked on a phone. */
export function beside(fig, count) {
  const cells = Array.from({ length: count }, () => html("div", { class: "cc-cell" }));
  fig.add(html("div", { class: "cc-beside" }, ...cells));
  return cells;
}

export class Plot {
  /**
   * height: pixels, or a function of the width. x, y: { domain: [lo, hi], label, log, ticks: [...] | count, format, hide }.
   * margin: pixels around the data; the right one holds the names of lines. parent: one of beside(), or the figure.
   */
  constructor(fig, { label, parent = fig.root, height = (w) => Math.max(200, Math.min(300, 0.45 * w)), margin = {}, x = {}, y = {} }) {
    this.fig = fig;
    this.height = typeof height === "function" ? height : () => height;
    this.margin = { top: 12, right: 16, bottom: 40, left: 46, ...margin };
    this.x = { domain: [0, 1], ...x };
    this.y = { domain: [0, 1], ...y };
    this.marks = new Map();
    this.clip = uniqueId();
    this.clipRect = svg("rect", {});
    this.grid = svg("g", { class: "cc-axes", "aria-hidden": "true" });
    this.data = svg("g", { "clip-path": `url(#${this.clip})` });
    this.over = svg("g", {});                              // texts, handles: may leave the data area
    this.node = svg("svg", { role: "img", "aria-label": label, class: "cc-plot" },
      svg("defs", {}, svg("clipPath", { id: this.clip }, this.clipRect)), this.grid, this.data, this.over);
    this.parent = parent;
    fig.parts.push(this);
    parent.append(this.node);
  }

  /** Says in words what is seen; changes with the data. */
  describe(text) { this.node.setAttribute("aria-label", text); }

  // ---- scales (pixels) -------------------------------------------------------------------------------------------
  get left() { return this.margin.left; }
  get right() { return this.w - this.margin.right; }
  get top() { return this.margin.top + (this.y.label ? 14 : 0); }   // the name of the y axis stands above it, upright
  get bottom() { return this.h - this.margin.bottom; }
  get sx() { return makeScale(this.x.domain, [this.left, this.right], this.x.log); }
  get sy() { return makeScale(this.y.domain, [this.bottom, this.top], this.y.log); }

  /** Data coordinates of a pointer event. */
  at(event) {
    const box = this.node.getBoundingClientRect();
    return [this.sx.invert(event.clientX - box.left), this.sy.invert(event.clientY - box.top)];
  }

  // ---- one drawing -----------------------------------------------------------------------------------------------
  begin() {
    const { paddingLeft, paddingRight } = getComputedStyle(this.parent);
    this.w = this.parent.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    this.h = Math.round(this.height(this.w));
    attrs(this.node, { viewBox: `0 0 ${this.w} ${this.h}`, width: this.w, height: this.h });
    this.stale = new Set(this.marks.keys());
    this.names = [];
  }

  end() {
    const { left, top, right, bottom } = this;
    attrs(this.clipRect, { x: left - 1, y: top - 1, width: Math.max(0, right - left + 2), height: Math.max(0, bottom - top + 2) });
    this.drawNames();
    for (const key of this.stale) { this.marks.get(key).remove(); this.marks.delete(key); }
    this.drawAxes();
  }

  /** The mark called `key`: made at first, kept from then on. */
  mark(key, tag, changes, layer = this.data) {
    let node = this.marks.get(key);
    if (!node) { node = svg(tag); this.marks.set(key, node); layer.append(node); }
    this.stale.delete(key);
    return attrs(node, changes);
  }

  // ---- marks: coordinates are data; color is a palette index, a CSS color or a "--variable" -----------------------
  /** A line through [[x, y], ...]; `name` is written at its end. */
  line(key, points, { color: c = 0, width = 2.5, dash, opacity, name } = {}) {
    const { sx, sy } = this, pixels = points.map(([x, y]) => [sx(x), sy(y)]);
    if (name) this.names.push({ key, name, color: c, end: pixels.findLast((p) => p.every(Number.isFinite)) });
    return this.mark(key, "path", { d: pathOf(pixels), class: "cc-line", "stroke-dasharray": dash, opacity,
      style: `stroke:${color(c)};stroke-width:${width}` });
  }

  /** Points, all of one radius, as a single path. */
  dots(key, points, { color: c = "--muted", radius = 2.5, opacity } = {}) {
    const { sx, sy } = this;
    const d = points.map(([x, y]) => `M${px(sx(x))} ${px(sy(y))}h0`).join("");
    return this.mark(key, "path", { d, class: "cc-line", opacity, style: `stroke:${color(c)};stroke-width:${2 * radius}` });
  }

  /** Bars from `base` to y, `width` wide in data units. */
  bars(key, points, { color: c = 0, width = 0.8, base = 0, opacity } = {}) {
    const { sx, sy } = this, y0 = sy(base);
    const d = points.map(([x, y]) => {
      const a = sx(x - width / 2), b = sx(x + width / 2);
      return `M${px(a)} ${px(y0)}V${px(sy(y))}H${px(b)}V${px(y0)}Z`;
    }).join("");
    return this.mark(key, "path", { d, opacity, style: `fill:${color(c)}` });
  }

  /** The area between [[x, lo, hi], ...]. */
  band(key, points, { color: c = 0, opacity = 0.15 } = {}) {
    const { sx, sy } = this, up = points.map(([x, , hi]) => [sx(x), sy(hi)]);
    const down = points.map(([x, lo]) => [sx(x), sy(lo)]).reverse();
    return this.mark(key, "path", { d: `${pathOf([...up, ...down])}Z`, opacity, style: `fill:${color(c)}` });
  }

  /** A straight line across the plot at one x or one y. */
  rule(key, { x, y, color: c = "--muted", dash = "4 4", width = 1.5 }) {
    const { sx, sy } = this;
    const ends = x != null ? { x1: sx(x), x2: sx(x), y1: this.top, y2: this.bottom } : { x1: this.left, x2: this.right, y1: sy(y), y2: sy(y) };
    return this.mark(key, "line", { ...ends, "stroke-dasharray": dash, style: `stroke:${color(c)};stroke-width:${width}` });
  }

  /** Words at a point, `dx`, `dy` pixels away; a halo keeps them readable over lines. */
  text(key, x, y, words, { color: c = "--ink", anchor = "start", dx = 0, dy = 0, bold = false } = {}) {
    const node = this.mark(key, "text", { x: px(this.sx(x) + dx), y: px(this.sy(y) + dy), "text-anchor": anchor,
      "font-weight": bold ? 650 : null, class: "cc-text", style: `fill:${color(c)}` }, this.over);
    if (node.textContent !== words) node.textContent = words;
    return node;
  }

  drawNames() {
    const shown = this.names.filter((n) => n.end);
    const clamp = (y) => Math.max(this.top, Math.min(this.bottom, y));
    const ys = spread(shown.map((n) => clamp(n.end[1])), 16);
    shown.forEach(({ key, name, color: c, end }, i) => {
      const node = this.mark(`name ${key}`, "text", { x: px(Math.min(end[0], this.right) + 8), y: px(ys[i] + 4),
        class: "cc-text cc-name", style: `fill:${color(c)}` }, this.over);
      if (node.textContent !== name) node.textContent = name;
    });
  }

  drawAxes() {
    const { left, right, top, bottom, sx, sy } = this, nodes = [];
    const ticksOf = (axis, room) => Array.isArray(axis.ticks) ? axis.ticks
      : (axis.log ? logTicks : niceTicks)(...[...axis.domain].sort((a, b) => a - b), axis.ticks ?? Math.max(2, room));
    const text = (x, y, words, more = {}) => nodes.push(svg("text", { x: px(x), y: px(y), ...more }, words));
    if (!this.y.hide) for (const v of ticksOf(this.y, Math.round((bottom - top) / 42))) {
      const y = sy(v);
      nodes.push(svg("line", { x1: left, x2: right, y1: y, y2: y, class: "cc-grid" }));
      text(left - 8, y + 4, (this.y.format ?? shortNumber)(v), { "text-anchor": "end" });
    }
    if (!this.x.hide) for (const v of ticksOf(this.x, Math.round((right - left) / 70))) {
      const x = sx(v);
      nodes.push(svg("line", { x1: x, x2: x, y1: bottom, y2: bottom + 4, class: "cc-tick" }));
      text(x, bottom + 18, (this.x.format ?? shortNumber)(v), { "text-anchor": "middle" });
    }
    nodes.push(svg("line", { x1: left, x2: right, y1: bottom, y2: bottom, class: "cc-tick" }));
    if (this.x.label) text((left + right) / 2, bottom + 35, this.x.label, { "text-anchor": "middle", class: "cc-axis-label" });
    if (this.y.label) text(2, 12, this.y.label, { class: "cc-axis-label" });
    this.grid.replaceChildren(...nodes);
  }
}
