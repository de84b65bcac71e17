// Chapter "Momentum": three methods on a convex curve whose slope has two corners. One of them goes round for ever.
import { Figure } from "../lib/figure.js";
import { choice } from "../lib/controls.js";
import { beside, Plot } from "../lib/plot.js";
import { handle } from "../lib/handle.js";
import { fixed } from "../math/scale.js";
import { KINK_METHODS, kink, kinkPath } from "../math/momentum.js";

const RUN = 600, SEEN = 40, EDGE = 4;
const GRID = Array.from({ length: 161 }, (_, i) => EDGE * (i / 80 - 1));

function render(context) {
  const fig = new Figure(context, "Three methods on a convex curve with two corners in its slope");
  const [left, right] = beside(fig, 2);
  const hill = new Plot(fig, { parent: left, label: "", height: 250, margin: { right: 10 },
    x: { domain: [-EDGE, EDGE], label: "w" }, y: { domain: [-6, 160], label: "loss", ticks: [0, 50, 100, 150] } });
  const time = new Plot(fig, { parent: right, label: "", height: 250, margin: { right: 12 },
    x: { domain: [0, SEEN], label: "step" }, y: { domain: [-EDGE, EDGE], label: "w", ticks: [-4, -2, 0, 2, 4] } });
  const place = handle(hill, { label: "Start; left and right arrow keys move it", step: [0.02, 0],
    get: () => [fig.get("start"), kink(fig.get("start"))],
    set: ([x]) => fig.set("start", +Math.max(-EDGE, Math.min(EDGE, x)).toFixed(2)), format: ([x]) => `start ${x.toFixed(2)}` });
  fig.row(choice(fig, "method", "Method", Object.keys(KINK_METHODS).map((n) => [n, n])));

  return fig.draw(["method", "start"], () => {
    const method = fig.get("method"), start = fig.get("start"), path = kinkPath(start, method, RUN);
    const last = path.slice(-3), arrives = Math.max(...path.slice(-20).map(Math.abs)) < 1e-6;
    hill.line("loss", GRID.map((x) => [x, kink(x)]), { color: "--muted", width: 2 });
    hill.line("moves", path.slice(0, SEEN + 1).map((x) => [x, kink(x)]), { color: 2, width: 1.2, opacity: 0.6 });
    hill.dots("stops", path.slice(1, SEEN + 1).map((x) => [x, kink(x)]), { color: 2, radius: 3 });
    if (!arrives) hill.dots("cycle", last.map((x) => [x, kink(x)]), { color: 1, radius: 6 });
    place();
    time.rule("bottom", { y: 0 });
    time.line("w", path.slice(0, SEEN + 1).map((x, k) => [k, x]), { color: 2, width: 1.5 });
    time.dots("w dots", path.slice(0, SEEN + 1).map((x, k) => [k, x]), { color: 2, radius: 3 });
    const there = path.findLastIndex((x) => Math.abs(x) >= 1e-3 * Math.abs(start)) + 1;
    const fate = arrives ? `${there} step${there === 1 ? "" : "s"} to a thousandth of the start.`
      : `it never arrives. In the end it goes round ${last.map((x) => fixed(x)).join(", ")}, for ever.`;
    hill.describe(`The curve and the first ${SEEN} steps of ${method} from ${fixed(start)}.`);
    time.describe(`w against the step: ${fate}`);
    fig.say(`${method} from w = ${fixed(start)}: ${fate}`);
  });
}

export default { render };
