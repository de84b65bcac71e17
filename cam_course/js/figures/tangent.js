// The smallest moving figure of the course: a point to drag along a curve, and the slope there.
import { Figure } from "../lib/figure.js";
import { handle } from "../lib/handle.js";
import { Plot } from "../lib/plot.js";
import { valley, valleySlope } from "../math/figures.js";
import { fixed } from "../math/scale.js";

function render(context) {
  const fig = new Figure(context, "A point on a curve, and the slope there");
  const plot = new Plot(fig, { label: "", margin: { right: 20 }, x: { domain: [-2.1, 2.1], label: "x" }, y: { domain: [-1.8, 1.4], label: "y" } });
  const clamp = (x) => Math.max(-2, Math.min(2, x));
  const place = handle(plot, { label: "Point on the curve; left and right arrow keys move it", step: [0.05, 0],
    get: () => [fig.get("x"), valley(fig.get("x"))], set: ([x]) => fig.set("x", +clamp(x).toFixed(3)) });
  const curve = Array.from({ length: 169 }, (_, i) => -2.1 + i / 40).map((x) => [x, valley(x)]);

  return fig.draw(["x"], () => {
    const x = fig.get("x"), y = valley(x), slope = valleySlope(x);
    plot.line("curve", curve, { color: 0, width: 3 });
    plot.line("tangent", [-0.7, 0.7].map((d) => [x + d, y + slope * d]), { color: 1 });
    place();
    plot.describe(`A curve with two valleys and its tangent at x = ${fixed(x)}, where the slope is ${fixed(slope)}.`);
    const downhill = slope > 0 ? "downhill is to the left" : "downhill is to the right";
    fig.say(`x = ${fixed(x)}: the slope is ${fixed(slope)}, ${Math.abs(slope) < 0.1 ? "nearly flat" : downhill}.`);
  });
}

export default { render };
