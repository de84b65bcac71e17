// The pointer's place, read with noise and smoothed in two ways. Newest readings at the top; time flows down.
import { Figure } from "../lib/figure.js";
import { button, legend, slider } from "../lib/controls.js";
import { attrs, reducedMotion, svg } from "../lib/dom.js";
import { Plot } from "../lib/plot.js";
import { responsiveStep, rms } from "../math/averages.js";
import { normal } from "../math/random.js";

const SPAN = 240;                                          // readings in view: 4 s at 60 a second
const MOST = 1023;                                         // of a 10-bit converter, as on an Arduino

function render(context) {
  const fig = new Figure(context, "Your pointer, smoothed by two averages");
  const plot = new Plot(fig, { label: "", height: (w) => Math.min(340, Math.max(260, 0.5 * w)), margin: { left: 34, right: 16, top: 26, bottom: 22 },
    x: { domain: [0, MOST], ticks: [0, 256, 512, 768, MOST] }, y: { domain: [SPAN / 60, 0], label: "seconds ago" } });
  attrs(plot.node, { tabindex: 0, role: "application", class: "cc-plot cc-pad" });
  const pad = svg("rect", { class: "cc-target" });
  plot.over.append(pad);

  const traces = { hand: [], raw: [], ewma: [], responsive: [] };
  let hand, slow, quick, noise, idle = 0, playing = -1, touched = false;
  const reset = () => {
    hand = fig.get("path")[0];
    slow = hand;
    quick = { value: hand, error: 0 };
    noise = normal(7);
    for (const trace of Object.values(traces)) trace.length = 0;
  };

  /** One reading of the place of the hand, through both filters. */
  const read = () => {
    const raw = hand + fig.get("noise") * noise(), beta = fig.get("beta");
    slow = beta * slow + (1 - beta) * raw;
    quick = responsiveStep(quick, raw, fig.get("snap"), fig.get("sleep"));
    const now = { hand, raw, ewma: slow, responsive: quick.value };
    for (const [name, trace] of Object.entries(traces)) {
      trace.unshift(now[name]);
      if (trace.length > SPAN) trace.pop();
    }
  };

  /** The recorded movement, read at once: what is seen before the reader moves. */
  const replayAll = () => {
    reset();
    for (const place of fig.get("path")) { hand = place; read(); }
    fig.invalidate();
  };

  let last = 0;
  const step = () => {
    const now = performance.now(), due = Math.min(6, Math.floor((now - last) * 0.06));   // 60 readings a second on any screen
    if (due > 0) last = now;
    for (let k = 0; k < due; k++) {
      if (playing >= 0) {
        hand = fig.get("path")[playing++];
        if (playing >= fig.get("path").length) playing = -1;
      }
      read();
    }
    if (due > 0) fig.invalidate();
    idle += due;
    return idle < SPAN || playing >= 0;                    // nobody moves: no work
  };
  const wake = () => {
    idle = 0;
    if (reducedMotion()) { for (let k = 0; k < 4; k++) read(); return fig.invalidate(); }
    if (!fig.running) { last = performance.now(); fig.animate(step); }
  };
  const moveTo = (place) => {
    playing = -1;
    touched = true;
    hand = Math.max(0, Math.min(MOST, place));
    wake();
  };
  plot.node.addEventListener("pointermove", (event) => moveTo(plot.at(event)[0]));
  plot.node.addEventListener("pointerdown", (event) => moveTo(plot.at(event)[0]));
  plot.node.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    moveTo(hand + by * (event.shiftKey ? 200 : 40));
  });
  fig.add(legend([["--muted", "raw reading"], [0, "EWMA"], [1, "responsive"]]));
  fig.row(
    slider(fig, "beta", "EWMA: β", { min: 0, max: 0.98, step: 0.01, format: (v) => v.toFixed(2) }),
    slider(fig, "snap", "responsive: snap", { min: 0.001, max: 0.1, log: true, format: (v) => v.toFixed(3) }),
    slider(fig, "noise", "noise", { min: 0, max: 40, step: 1, format: (v) => `± ${v}` }));
  fig.row(button("▶ Play a movement", () => {
    if (reducedMotion()) return replayAll();
    reset();
    playing = 0;
    wake();
  }));
  for (const name of ["beta", "snap", "noise", "sleep"]) fig.on(name, () => { if (!fig.running) replayAll(); });

  reset();
  for (const place of fig.get("path")) { hand = place; read(); }
  return fig.draw([], () => {
    const styles = { raw: { color: "--muted", width: 1.2, opacity: 0.8 }, ewma: { color: 0, width: 3 }, responsive: { color: 1, width: 3 } };
    attrs(pad, { x: plot.left, y: 0, width: plot.right - plot.left, height: plot.bottom });
    for (const [name, look] of Object.entries(styles)) {
      plot.line(name, traces[name].map((v, i) => [v, i / 60]), look);
      plot.mark(`${name} now`, "circle", { cx: plot.sx(traces[name][0]), cy: plot.top, r: name === "raw" ? 4 : 7,
        style: `fill:var(${typeof look.color === "number" ? `--c${look.color}` : look.color})` }, plot.over);
    }
    if (!touched) plot.text("hint", MOST, 0.92 * SPAN / 60, "← move over this pad →", { anchor: "end", dx: -4 });
    const off = (name) => rms(traces[name], traces.hand).toFixed(0);
    const place = plot.sx(traces.hand[0]);
    plot.mark("pointer", "path", { d: `M${place} ${plot.top - 8}l-7 -11h14z`, style: "fill:var(--ink)" }, plot.over);
    plot.describe("Pad: move the pointer left and right over it, or press the left and right arrow keys (Shift: further).");
    fig.say(`Distance from the true place, root mean square of these ${traces.raw.length / 60 >= 1 ? `${Math.round(traces.raw.length / 60)} s` : "readings"}: `
      + `raw ${off("raw")}, EWMA ${off("ewma")}, responsive ${off("responsive")} (of ${MOST}).`);
  });
}

export default { render };
