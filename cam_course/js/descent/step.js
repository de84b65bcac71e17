// Chapter "Gradient descent", the opening figure: one step after the other down the parabola w²/2.
import { Figure } from "../lib/figure.js";
import { button, slider } from "../lib/controls.js";
import { handle } from "../lib/handle.js";
import { Plot } from "../lib/plot.js";
import { fixed } from "../math/scale.js";
import { descendQuadratic } from "../math/descent.js";

const SIDE = 3, MOST = 30;
const CURVE = Array.from({ length: 121 }, (_, i) => SIDE * (i / 60 - 1)).map((w) => [w, (w * w) / 2]);

function render(context) {
  const fig = new Figure(context, "Gradient descent on a parabola, step by step");
  const plot = new Plot(fig, { label: "", height: (w) => 0.24 * w + 90, x: { domain: [-SIDE, SIDE], label: "w" },
    y: { domain: [-0.3, 4.7], label: "loss", ticks: [0, 1, 2, 3, 4] } });
  const place = handle(plot, { label: "Start; left and right arrow keys move it", step: [0.1, 0],
    get: () => [fig.get("start"), fig.get("start") ** 2 / 2],
    set: ([w]) => fig.set("start", +Math.max(-SIDE, Math.min(SIDE, w)).toFixed(2)), format: ([w]) => `start ${w.toFixed(2)}` });
  fig.row(slider(fig, "alpha", "learning rate α", { min: 0.05, max: 2.2, step: 0.05, format: (v) => v.toFixed(2) }));
  fig.row(button("Take a step", () => fig.set("steps", Math.min(MOST, fig.get("steps") + 1))),
    button("Back to the start", () => fig.set("steps", 0)));

  return fig.draw(["alpha", "start", "steps"], () => {
    const [alpha, start, steps] = ["alpha", "start", "steps"].map((n) => fig.get(n));
    const path = descendQuadratic([1], [start], alpha, steps + 1).map(([w]) => w);
    const at = path[steps], next = path[steps + 1], points = path.slice(0, steps + 1).map((w) => [w, (w * w) / 2]);
    plot.line("loss", CURVE, { color: "--muted", width: 2.5 });
    const reach = [at - 0.6, at + 0.6];
    plot.line("tangent", reach.map((w) => [w, (at * at) / 2 + at * (w - at)]), { color: 1, width: 2.5 });
    plot.line("path", points, { color: 2, width: 1.5 });
    plot.dots("steps", points.slice(1), { color: 2, radius: 4 });
    place();
    plot.dots("now", [points.at(-1)], { color: 1, radius: 6 });
    const words = `After ${steps} step${steps === 1 ? "" : "s"}: w = ${fixed(at)}, loss ${fixed((at * at) / 2)}, slope ${fixed(at)}. `
      + `The next step is −${fixed(alpha)} × ${at < 0 ? `(${fixed(at)})` : fixed(at)} = ${fixed(next - at)}.`;
    plot.describe(`A parabola and the path on it. ${words}`);
    fig.say(words);
  });
}

export default { render };
