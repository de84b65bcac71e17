// Chapter "The learning-rate finder": a recorded range test, drawn step by step, and at its end what the four rules say.
import { Figure } from "../lib/figure.js";
import { button, legend, slider } from "../lib/controls.js";
import { Plot } from "../lib/plot.js";
import { shortNumber } from "../math/scale.js";

const NAMES = ["valley", "steep", "slide", "minimum"];
const short = (v) => shortNumber(+v.toPrecision(2));

function render(context) {
  const fig = new Figure(context, "A range test: the loss of each batch while the learning rate grows");
  const [lr, loss, smoothed, fit] = ["lr", "loss", "smoothed", "fit"].map((name) => fig.get(name));
  const rules = fig.get("rules"), start = fig.get("start"), n = lr.length, stop = fit.length ? start + fit.length : n;
  const read = loss.slice(0, stop), low = Math.min(...read), high = Math.max(...read), span = high - low || 1;
  const plot = new Plot(fig, { label: "", height: (w) => 0.24 * w + 150, margin: { right: 18 },
    x: { domain: [lr[0], lr[n - 1]], log: true, label: "learning rate" },
    y: { domain: [low - 0.1 * span, high + 0.8 * span], label: "loss" } });
  const last = () => Math.min(n, fig.get("step") || n);
  fig.row(legend([["--muted", "loss of one batch"], [0, "the line that the rules read"]]),
    button("▶ Run the test", () => fig.animate((k) => { fig.set("step", Math.min(n, 1 + (k >> 1))); return (k >> 1) + 1 < n; },
      () => fig.set("step", n))));
  fig.row(slider(fig, "step", "steps taken", { min: 1, max: n, step: 1, format: (v) => String(v || n) }));

  return fig.draw(["step"], () => {
    const k = last(), ended = k === n;
    plot.dots("losses", loss.slice(0, k).map((y, i) => [lr[i], y]), { radius: 2.5 });
    plot.line("average", smoothed.slice(0, k).map((y, i) => [lr[i], y]), { color: "--muted", width: 1.2, opacity: 0.7 });
    if (!ended) plot.rule("now", { x: lr[k - 1], color: "--ink" });
    if (!ended) plot.dots("the last", [[lr[k - 1], loss[k - 1]]], { color: 1, radius: 5 });
    const found = ended ? NAMES.filter((name) => name in rules).toSorted((a, b) => rules[a] - rules[b]) : [];
    if (found.length) plot.line("read", fit.map((y, i) => [lr[start + i], y]), { color: 0 });
    found.forEach((name, row) => {
      const x = rules[name], color = 1 + NAMES.indexOf(name), right = plot.sx(x) > plot.right - 120;
      const at = fit[Math.min(fit.length - 1, Math.max(0, lr.findIndex((v) => v >= x) - start))];
      const top = high + (0.7 - 0.18 * row) * span;
      plot.line(`stem ${name}`, [[x, at], [x, top]], { color, width: 1.5 });
      plot.dots(`dot ${name}`, [[x, at]], { color, radius: 5 });
      plot.text(`name ${name}`, x, top, `${name} ${short(x)}`, { color, bold: true, dx: right ? -6 : 6, dy: 4, anchor: right ? "end" : "start" });
    });
    const said = found.length ? ` The rules read: ${found.map((name) => `${name} ${short(rules[name])}`).join(", ")}.` : "";
    const text = `Step ${k} of ${n}: learning rate ${short(lr[k - 1])}, loss ${loss[k - 1].toFixed(2)}.`
      + (ended ? ` The test ${fig.get("why")}.${said}` : "");
    plot.describe(`Loss over learning rate, logarithmic. ${text}`);
    fig.say(text);
  });
}

export default { render };
