// Chapter "Schedules that react": a plateau scheduler at work; its counter as bars under the loss it watches.
import { Figure } from "../lib/figure.js";
import { button, choice, legend, slider } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { Plot } from "../lib/plot.js";
import { plateauTraining } from "../math/schedules.js";

const EPOCHS = 60, FIRST = 0.3;
const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
const three = (v) => (v < 1e-3 ? v.toExponential(1).replace("-", "−") : String(+v.toPrecision(3)));

function render(context) {
  const fig = new Figure(context, "ReduceLROnPlateau on a noisy loss, with its patience counter");
  const margin = { left: 54, right: 74 }, x = { domain: [0, EPOCHS + 1], label: "epoch" };
  const chart = new Plot(fig, { label: "", height: 178, margin: { ...margin, bottom: 22 },
    x: { ...x, label: "" }, y: { domain: [1e-3, 0.1], log: true, label: "held-out loss" } });
  const counter = new Plot(fig, { label: "", height: 120, margin, x, y: { label: "bad epochs" } });

  fig.add(legend([[0, "measured loss"], ["--muted", "true loss"], [3, "what it must get under"], [1, "the rate is cut"]]));
  fig.add(html("div", { class: "cc-pair" }, slider(fig, "patience", "patience", { min: 0, max: 12, step: 1 }),
    slider(fig, "threshold", "threshold", { min: 1e-4, max: 0.3, log: true, format: (v) => String(+v.toPrecision(2)) }),
    slider(fig, "factor", "factor", { min: 0.05, max: 0.95, step: 0.05, format: (v) => v.toFixed(2) }),
    slider(fig, "noise", "noise", { min: 0, max: 0.5, step: 0.01, format: (v) => v.toFixed(2) })));
  fig.row(choice(fig, "threshold_mode", "Threshold", [["rel", "relative"], ["abs", "absolute"]]),
    button("New noise", () => fig.set("seed", (fig.get("seed") + 1) % 1000)));

  const traits = ["patience", "threshold", "threshold_mode", "factor", "noise", "seed"];
  return fig.draw(traits, () => {
    const [patience, threshold, thresholdMode, factor, noise, seed] = traits.map((n) => fig.get(n));
    const seen = plateauTraining(EPOCHS, FIRST, noise, seed, { patience, threshold, thresholdMode, factor });
    const at = (f) => seen.map((row, e) => [e + 1, f(row)]), cuts = seen.flatMap((row, e) => (row.cut ? [e + 1] : []));
    const all = seen.flatMap((r) => [r.loss, r.truth]);
    chart.y.domain = [10 ** Math.floor(Math.log10(Math.min(...all))), 10 ** Math.ceil(Math.log10(Math.max(...all)))];
    chart.line("truth", at((r) => r.truth), { color: "--muted", width: 1.5 });
    for (const e of cuts) chart.rule(`cut ${e}`, { x: e, color: 1 });
    chart.line("bar", at((r) => (r.bar > 0 && Number.isFinite(r.bar) ? r.bar : NaN)),
      { color: 3, width: 1.5, dash: "5 4" });
    chart.line("loss", at((r) => r.loss), { color: 0, width: 1.8 });
    chart.dots("losses", at((r) => r.loss), { color: 0, radius: 2.5 });
    counter.y.domain = [0, patience + 1.6];
    counter.y.ticks = [0, patience || 1];
    counter.bars("waiting", at((r) => (r.cut ? 0 : r.counted)), { color: 0, width: 0.7, opacity: 0.75 });
    counter.bars("cutting", at((r) => (r.cut ? r.counted : 0)), { color: 1, width: 0.7 });
    counter.rule("patience", { y: patience, color: "--ink" });
    counter.text("patience name", EPOCHS + 1, patience, "patience", { dx: 8, dy: 4 });
    const when = cuts.length ? ` after epoch${cuts.length > 1 ? "s" : ""} ${cuts.join(", ")}` : "";
    const text = `${count(cuts.length, "cut")}${when}: the last rate is ${three(seen.at(-1).lr)}. `
      + `True loss at the end ${three(seen.at(-1).truth)}`
      + `${cuts.length ? `; at the first cut, where early stopping would end, ${three(seen[cuts[0] - 1].truth)}` : ""}.`;
    chart.describe(`Loss against the epoch, vertical lines where the rate is cut. ${text}`);
    counter.describe(`Bars: bad epochs counted, up to ${Math.max(...seen.map((r) => r.counted))}; patience ${patience}.`);
    fig.say(text);
  });
}

export default { render };
