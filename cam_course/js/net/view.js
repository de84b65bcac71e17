// A picture under its map on a canvas, and a brush on it: mouse, finger, or arrow keys and the space bar.
import { attrs, html } from "../lib/dom.js";
import { cellsUnder, colorIndex } from "../math/cams.js";
import { toPixels } from "./pixels.js";

const EDGE = 320;                                          // pixels of the drawing
const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** Colors of a map that is enlarged to size x size: 0 and less is the first color, `top` the last. */
export function heatPixels(map, h, w, top, size, colors) {
  const out = new Uint8ClampedArray(4 * size * size), rows = cellsUnder(h, size), columns = cellsUnder(w, size);
  const unit = Float32Array.from(map, (v) => (top > 0 ? Math.max(0, v) / top : 0));
  for (let y = 0, k = 0; y < size; y++) {
    const [r0, r1, fr] = rows[y];
    for (let x = 0; x < size; x++, k += 4) {
      const [c0, c1, fc] = columns[x];
      const upper = unit[r0 * w + c0] * (1 - fc) + unit[r0 * w + c1] * fc, lower = unit[r1 * w + c0] * (1 - fc) + unit[r1 * w + c1] * fc;
      const at = 3 * colorIndex(upper * (1 - fr) + lower * fr);
      out[k] = colors[at]; out[k + 1] = colors[at + 1]; out[k + 2] = colors[at + 2]; out[k + 3] = 255;
    }
  }
  return out;
}

const sheet = (side) => Object.assign(document.createElement("canvas"), { width: side, height: side });

export class View {
  /** `side`: pixels a row of the picture. `caption` stands below. */
  constructor(fig, label, side, caption = "") {
    Object.assign(this, { fig, side, photo: sheet(side), heat: sheet(EDGE), ring: null });
    this.canvas = Object.assign(html("canvas", { role: "img", class: "cc-plot cc-picture", "aria-label": label }), { width: EDGE, height: EDGE });
    this.caption = html("figcaption", {}, caption);
    this.node = html("figure", { class: "cc-view" }, this.canvas, this.caption);
  }

  describe(text) { this.canvas.setAttribute("aria-label", text); }

  /** `planes`: the picture's numbers. `seen`: { map, h, w, peak }, drawn over it with `opacity`. `mark`: [x, y] from 0 to 1, a ring. */
  paint(planes, { seen, opacity = 0.5, top = seen?.peak, mark } = {}) {
    const brush = this.canvas.getContext("2d"), { side } = this;
    this.photo.getContext("2d").putImageData(new ImageData(toPixels(planes), side, side), 0, 0);
    brush.imageSmoothingEnabled = side > 100;
    brush.globalAlpha = 1;
    brush.drawImage(this.photo, 0, 0, EDGE, EDGE);
    if (seen && opacity > 0) {
      this.heat.getContext("2d").putImageData(new ImageData(heatPixels(seen.map, seen.h, seen.w, top, EDGE, this.fig.colors), EDGE, EDGE), 0, 0);
      brush.globalAlpha = opacity;
      brush.drawImage(this.heat, 0, 0);
      brush.globalAlpha = 1;
    }
    const ring = mark ?? this.ring;
    if (!ring) return;
    for (const [color, width] of [["#000", 5], ["#fff", 2]]) {
      brush.strokeStyle = color;
      brush.lineWidth = width;
      brush.beginPath();
      brush.arc(ring[0] * EDGE, ring[1] * EDGE, mark ? 14 : Math.max(6, this.reach * EDGE), 0, 7);
      brush.stroke();
    }
  }

  /** From now on the picture can be painted on: dab(x, y) is called with the pixel, `done` when the brush is lifted. */
  brush({ label, dab, done = () => {}, on = () => true, reach = () => 1 }) {
    const node = html("div", { class: "cc-pad cc-brush", tabindex: 0, role: "group", "aria-label": `${label} Arrow keys move the brush, the space bar paints.` });
    this.canvas.replaceWith(node);
    node.append(this.canvas);
    this.pad = node;
    let at = [this.side >> 1, this.side >> 1], down = false;
    const put = () => { this.reach = reach() / this.side; this.ring = node.matches(":focus-visible") ? at.map((v) => (v + 0.5) / this.side) : null; this.fig.invalidate(); };
    const cell = (event) => {
      const box = this.canvas.getBoundingClientRect(), inside = (v) => Math.max(0, Math.min(this.side - 1, Math.floor(v * this.side)));
      return [inside((event.clientX - box.left) / box.width), inside((event.clientY - box.top) / box.height)];
    };
    /** Every pixel on the way, so that a quick stroke has no gaps. */
    const stroke = (to) => {
      const steps = Math.max(1, Math.abs(to[0] - at[0]), Math.abs(to[1] - at[1])), from = at;
      for (let k = 1; k <= steps; k++) dab(...to.map((v, i) => Math.round(from[i] + ((v - from[i]) * k) / steps)));
      at = to;
    };
    node.addEventListener("pointerdown", (event) => {
      if (event.button || !on()) return;
      event.preventDefault();
      node.focus({ preventScroll: true });
      node.setPointerCapture(event.pointerId);
      down = true;
      at = cell(event);
      dab(...at);
      put();
    });
    node.addEventListener("pointermove", (event) => { if (down) { stroke(cell(event)); put(); } });
    const lift = () => { if (down) { down = false; done(); } };
    node.addEventListener("pointerup", lift);
    node.addEventListener("pointercancel", lift);
    node.addEventListener("keydown", (event) => {
      const by = KEYS[event.key], far = event.shiftKey ? 4 : 1;
      if (!on() || (!by && event.key !== " ")) return;
      event.preventDefault();
      if (by) at = at.map((v, i) => Math.max(0, Math.min(this.side - 1, v + by[i] * far)));
      else { dab(...at); done(); }
      put();
    });
    for (const name of ["focus", "blur"]) node.addEventListener(name, put);
    this.allow = () => attrs(node, { style: on() ? "touch-action:none;cursor:crosshair" : "touch-action:auto;cursor:auto" });
    this.allow();
    return this;
  }
}

/** Colors a round spot of a picture's numbers; `color`: three numbers from 0 to 1, or a function of the position in the planes. */
export function spot(planes, side, x, y, radius, color) {
  const cells = side * side, far = Math.ceil(radius);
  for (let dy = -far; dy <= far; dy++)
    for (let dx = -far; dx <= far; dx++) {
      const px = x + dx, py = y + dy;
      if (px < 0 || py < 0 || px >= side || py >= side || dx * dx + dy * dy > radius * radius) continue;
      for (let c = 0; c < 3; c++) planes[c * cells + py * side + px] = color[c];
    }
}
