// Chapter "Reading a range test": a curve whose steepest point is known, and what four rules make of it under noise.
import { Figure } from "../lib/figure.js";
import { button, choice, slider } from "../lib/controls.js";
import { Plot } from "../lib/plot.js";
import { shortNumber } from "../math/scale.js";
import { reading, valleyAxis, valleyLoss } from "../math/lr_finder.js";

const RUNS = 30, NAMES = ["valley", "steep", "slide", "minimum"];
const rate = (u) => (10 ** u).toExponential(1).replace("-", "−");

function render(context) {
  const fig = new Figure(context, "Four rules that suggest a learning rate, on a curve whose truth is known");
  const plot = new Plot(fig, { label: "Loss over learning rate", height: (w) => 0.32 * w + 170, margin: { right: 18 },
    x: { domain: [-7, 1], label: "learning rate", ticks: [-7, -5, -3, -1, 1], format: (v) => shortNumber(+`1e${v}`) },
    y: { domain: [0.7, 4.1], label: "loss", ticks: [1, 1.5, 2, 2.5] } });
  fig.row(choice(fig, "way", "What the rules read", [["line", "line, looks both ways"], ["ewma", "EWMA, looks back"]]),
    button("Another run", () => fig.set("seed", (fig.get("seed") + 1) % RUNS)));
  fig.row(slider(fig, "noise", "noise of the loss", { min: 0.003, max: 0.3, log: true, steps: 40, format: (v) => shortNumber(+v.toPrecision(2)) }),
    slider(fig, "beta", "EWMA’s β", { min: 0, max: 0.98, step: 0.01, format: (v) => v.toFixed(2) }));
  const axis = valleyAxis(), truth = valleyLoss(axis).map((y, i) => [axis[i], y]);

  return fig.draw(["noise", "beta", "seed", "way"], () => {
    const way = fig.get("way"), r = reading(fig.get("seed"), fig.get("noise"), fig.get("beta"));
    const path = (ys, from = 0) => ys.map((y, i) => [r.u[i + from], y]);
    plot.band("head", [[-7, 0, 5], [r.u[r.start], 0, 5]], { color: "--muted", opacity: 0.13 });
    plot.band("tail", [[r.u[r.stop - 1], 0, 5], [1, 0, 5]], { color: "--muted", opacity: 0.13 });
    plot.line("truth", truth, { color: "--muted", width: 1.2, dash: "3 4" });
    plot.dots("losses", path(r.loss), { radius: 2 });
    const read = way === "line" ? path(r.fit, r.start) : path(r.smoothed);
    plot.line("read", read, { color: 0, width: 2.5 });
    plot.rule("steepest", { x: -2, color: "--ink" });
    plot.text("steepest words", -2, 0.78, "steepest", { anchor: "end", dx: -6 });
    const names = NAMES.toSorted((a, b) => r[way][a] - r[way][b]);
    names.forEach((name, row) => {
      const x = r[way][name], color = 1 + NAMES.indexOf(name), top = 3.95 - 0.33 * row, right = plot.sx(x) > plot.right - 112;
      const k = read.findIndex(([v]) => v >= x - 1e-9), y = read[Math.max(0, k)][1];
      plot.line(`stem ${name}`, [[x, y], [x, top]], { color, width: 1.5 });
      plot.dots(`dot ${name}`, [[x, y]], { color, radius: 5 });
      plot.text(`name ${name}`, x, top, `${name} ${rate(x)}`, { color, bold: true, dx: right ? -6 : 6, dy: 5, anchor: right ? "end" : "start" });
    });
    const off = (u) => 10 ** Math.abs(u + 2), both = ["line", "ewma"].map((w) => `${off(r[w].steep).toFixed(1)} (${w === "line" ? "line" : "EWMA"})`);
    fig.say(`Noise ${shortNumber(+fig.get("noise").toPrecision(2))}, run ${fig.get("seed") + 1}: “steep” misses the true steepest point, 1e−2, `
      + `by a factor of ${both.join(" or ")}. `
      + `The four suggestions span a factor of ${(10 ** (r[way][names[3]] - r[way][names[0]])).toFixed(0)}.`);
  });
}

export default { render };
