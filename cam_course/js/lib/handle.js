// A point to drag: with the mouse, a finger, or the arrow keys (Shift: ten times as far).
import { attrs, svg } from "./dom.js";

const KEYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowDown: [0, -1], ArrowUp: [0, 1] };

/**
 * A handle on `plot`. get() gives [x, y] in data units, set([x, y]) moves it (and may restrict it), step: data units per
 * key press [dx, dy]. Call the returned function inside draw() to put the handle where it belongs.
 * `anywhere`: pressing the mouse elsewhere on the plot brings the handle there.
 */
export function handle(plot, { label, get, set, step, format = (p) => p.map((v) => v.toFixed(2)).join(", "), anywhere = true }) {
  const node = svg("g", { class: "cc-handle", tabindex: 0, role: "slider", "aria-label": label },
    svg("circle", { r: 22, class: "cc-target" }), svg("circle", { r: 9, class: "cc-knob" }));
  plot.over.append(node);
  plot.node.setAttribute("role", "group");               // an image may hold nothing that can be focused

  const grab = (event) => {
    if (event.button) return;
    event.preventDefault();
    node.focus({ preventScroll: true });
    node.setPointerCapture(event.pointerId);
    set(plot.at(event));
  };
  node.addEventListener("pointerdown", grab);
  // A finger on the handle drags; elsewhere it scrolls. (touch-action has no effect inside an SVG.)
  node.addEventListener("touchstart", (event) => event.preventDefault(), { passive: false });
  node.addEventListener("pointermove", (event) => { if (node.hasPointerCapture(event.pointerId)) set(plot.at(event)); });
  if (anywhere) plot.node.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse" && !node.contains(event.target)) grab(event);   // a finger there scrolls the page
  });
  node.addEventListener("keydown", (event) => {
    const by = KEYS[event.key];
    if (!by) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1, now = get();
    set(now.map((v, i) => v + by[i] * step[i] * far));
  });
  return () => {
    const [x, y] = get();
    attrs(node, { transform: `translate(${plot.sx(x).toFixed(1)} ${plot.sy(y).toFixed(1)})`, "aria-valuetext": format([x, y]),
      "aria-valuenow": +x.toFixed(4), "aria-valuemin": Math.min(...plot.x.domain), "aria-valuemax": Math.max(...plot.x.domain) });
  };
}
