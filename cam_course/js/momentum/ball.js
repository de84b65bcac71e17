// Chapter "Momentum", the opening figure: a ball in a long valley, and how much it remembers.
import { Figure } from "../lib/figure.js";
import { button, slider } from "../lib/controls.js";
import { Plot } from "../lib/plot.js";
import { surface } from "../lib/surface.js";
import { momentumQuadratic, stepsTo, swingPast } from "../math/momentum.js";

const LONGEST = 3000, DRAWN = 400, FROM = [-4, 2];

function render(context) {
  const fig = new Figure(context, "A ball in a long valley, with a memory to choose");
  const plane = new Plot(fig, { label: "", height: (w) => 0.3 * w + 90, margin: { left: 34, right: 14 },
    x: { domain: [-5, 5], label: "along the floor of the valley" }, y: { domain: [-2.6, 2.6], label: "across it", ticks: [-2, 0, 2] } });
  const shade = surface(plane);
  let whole = [], end = Infinity;                          // end: the last step that is drawn, while the ball rolls
  const roll = () => fig.animate((k) => {
    end = k < Math.min(whole.length - 1, DRAWN) ? k : Infinity;
    fig.invalidate();
    return end < Infinity;
  });
  fig.row(slider(fig, "beta", "momentum β", { min: 0, max: 0.99, step: 0.01, format: (v) => v.toFixed(2) }));
  fig.row(button("Let it roll", roll));

  for (const trait of ["alpha", "beta", "kappa"]) fig.on(trait, () => { fig.stop(); end = Infinity; });

  return fig.draw(["alpha", "beta", "kappa"], () => {
    const [alpha, beta, kappa] = ["alpha", "beta", "kappa"].map((n) => fig.get(n)), curvatures = [1 / kappa, 1];
    const path = momentumQuadratic(curvatures, FROM, alpha, beta, LONGEST, false), steps = stepsTo(path, 1e-3);
    const arrives = steps <= LONGEST;
    whole = path.slice(0, steps + 1);
    shade((x, y) => curvatures[0] * x * x + y * y, { key: kappa, transform: Math.sqrt, bands: 12 });
    const seen = whole.slice(0, Math.min(end, DRAWN) + 1), ball = seen.at(-1);
    plane.line("path", seen, { color: 2, width: 1.8 });
    plane.dots("steps", seen, { color: 2, radius: 2.4 });
    plane.text("bottom", 0, 0, "✕", { anchor: "middle", dy: 5, bold: true });
    plane.text("start", ...FROM, "start", { dx: 9, dy: -7, bold: true });
    plane.dots("ball", [ball], { color: 1, radius: 7 });

    const past = Math.round(100 * swingPast(whole, 0));
    const words = `${arrives ? `${steps} steps to the bottom` : `not at the bottom after ${LONGEST} steps`}. `
      + `Height of the swing: ${past} % of the way, past the bottom.`;
    plane.describe(`Path of the ball with β = ${beta.toFixed(2)}. ${words}`);
    fig.say(`β = ${beta.toFixed(2)}: ${words}`);
  });
}

export default { render };
