// Chapter "Noise, batch and rate", the opening figure: a noisy descent, its mean loss, and the floor where both end.
import { Figure } from "../lib/figure.js";
import { button, legend, slider } from "../lib/controls.js";
import { beside, Plot } from "../lib/plot.js";
import { arrival, expectedLoss, noiseFloor, noisyPositions } from "../math/gradient_noise.js";
import { hashNormal } from "../math/noise.js";

const START = 3, LOWEST = 1e-5;
const short = (v) => String(+v.toPrecision(2));

function render(context) {
  const fig = new Figure(context, "A noisy descent on a bowl, and its noise floor");
  const [left, right] = beside(fig, 2), height = () => (fig.root.clientWidth < 500 ? 172 : 212);
  const place = new Plot(fig, { parent: left, label: "", height, margin: { left: 34 },
    x: { label: "step" }, y: { domain: [-3.2, 3.2], label: "weight w" } });
  const chart = new Plot(fig, { parent: right, label: "", height, margin: { left: 56 },
    x: { label: "step" }, y: { domain: [LOWEST, 10], log: true, label: "loss w²/2" } });
  fig.row(legend([["--muted", "one descent"], [0, "mean of all descents"], [1, "noise floor"]]),
    button("Other noise", () => fig.set("seed", fig.get("seed") + 1)));
  fig.row(slider(fig, "lr", "learning rate", { min: 0.01, max: 1.9, log: true, steps: 60 }),
    slider(fig, "batch", "batch", { min: 1, max: 256, log: true, steps: 8 }));
  fig.row(slider(fig, "beta", "momentum β", { min: 0, max: 0.95, step: 0.05, format: (v) => v.toFixed(2) }));

  return fig.draw(["lr", "batch", "beta", "seed", "steps"], () => {
    const [lr, batch, beta, seed, steps] = ["lr", "batch", "beta", "seed", "steps"].map((name) => fig.get(name));
    const path = noisyPositions(START, lr, beta, batch, hashNormal(seed, steps));
    const mean = expectedLoss(START, lr, beta, batch, steps), floor = noiseFloor(lr, beta, batch);
    const spread = Math.sqrt(2 * floor), after = arrival(mean, floor);
    place.x.domain = chart.x.domain = [0, steps];
    place.band("floor", [[0, -spread, spread], [steps, -spread, spread]], { color: 1, opacity: 0.2 });
    place.rule("minimum", { y: 0 });
    place.line("descent", path.map((w, k) => [k, w]), { color: "--muted", width: 1.4 });
    const above = (v) => Math.max(v, LOWEST);
    chart.line("descent", path.map((w, k) => [k, above(w ** 2 / 2)]), { color: "--muted", width: 1, opacity: 0.7 });
    chart.line("mean", mean.map((v, k) => [k, above(v)]), { color: 0, width: 3 });
    chart.rule("floor", { y: floor, color: 1, dash: "6 4" });

    const when = after < 0 ? `The mean is not there after ${steps} steps`
      : `The mean is there after ${after} steps, which use ${(after * batch).toLocaleString("en")} examples`;
    const text = `Noise floor: loss ${short(floor)}, so w stays about ${short(spread)} from the minimum. ${when}.`;
    place.describe(`The weight against the step, in one noisy descent; a band shows where it settles. ${text}`);
    chart.describe(`Loss of this descent and mean loss against the step, with a line at the floor. ${text}`);
    fig.say(text);
  });
}

export default { render };
