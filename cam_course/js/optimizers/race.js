// Six optimizers race from a start that the reader drags: their paths on the surface, and the loss against the step.
import { Figure } from "../lib/figure.js";
import { select, slider, toggle } from "../lib/controls.js";
import { handle } from "../lib/handle.js";
import { walking } from "../lib/play.js";
import { Plot } from "../lib/plot.js";
import { surface } from "../lib/surface.js";
import { RACE_SURFACES, lossGap, raceTrajectory, tunedRate } from "../math/optimizers.js";

const RACER_NAMES = { sgd: "SGD", momentum: "Momentum", nesterov: "Nesterov", adagrad: "Adagrad", rmsprop: "RMSProp",
  adam: "Adam" };
const FLOOR = 1e-12;                                       // of the loss plot
const RACE_TITLES = { beale: "Beale's function", rosenbrock: "Rosenbrock's valley" };

function render(context) {
  const fig = new Figure(context, "Race of six optimizers over a loss surface");
  const map = new Plot(fig, { label: "", height: (w) => Math.max(230, 0.5 * w),
    x: { label: "w₁" }, y: { label: "w₂" } });
  const chart = new Plot(fig, { label: "", height: (w) => Math.max(210, 0.36 * w), margin: { right: 128 },
    x: { label: "step" }, y: { label: "loss above the minimum", log: true } });
  const shade = surface(map);
  const limits = () => RACE_SURFACES[fig.get("surface")].limits;
  const place = handle(map, { label: "Start point; arrow keys move it", step: [0.05, 0.05], get: () => fig.get("start"),
    set: ([x, y]) => {
      const [x0, x1, y0, y1] = limits();
      fig.set("start", [Math.min(x1, Math.max(x0, x)), Math.min(y1, Math.max(y0, y))]);
    } });

  const race = walking(fig, "Race", (k) => k, ["surface", "start", "tuned", "lr"]);
  const rate = slider(fig, "lr", "learning rate", { min: 1e-4, max: 10, log: true, format: (v) => String(v) });
  fig.row(race.button,
    select(fig, "surface", "Surface", Object.keys(RACE_SURFACES).map((name) => [name, RACE_TITLES[name] ?? name])),
    toggle(fig, "tuned", "each at its own best rate"));
  fig.row(rate);
  fig.on("surface", () => fig.set("start", RACE_SURFACES[fig.get("surface")].start));

  let key = "", runs = [];
  const compute = () => {                                  // once for each state, not once for each frame
    const [name, start, tuned, lr, steps] = ["surface", "start", "tuned", "lr", "steps"].map((trait) => fig.get(trait));
    const now = JSON.stringify([name, start, tuned, lr, steps]);
    if (now === key) return;
    key = now;
    runs = Object.keys(RACER_NAMES).map((optimizer) => {
      const own = tuned ? tunedRate(optimizer, name, start, steps) : lr;
      const path = raceTrajectory(optimizer, name, start, own, steps);
      return { title: RACER_NAMES[optimizer], lr: own, path, gaps: lossGap(name, path) };
    });
  };

  return fig.draw(["surface", "start", "tuned", "lr", "steps"], () => {
    compute();
    const name = fig.get("surface"), tuned = fig.get("tuned"), { f, minimum, minima } = RACE_SURFACES[name];
    rate.style.display = tuned ? "none" : "";
    map.x.domain = limits().slice(0, 2);
    map.y.domain = limits().slice(2);
    shade(f, { key: name, bands: 12, transform: (v) => Math.log(v - minimum + 0.05) });
    minima.forEach(([x, y], i) => map.text(`minimum ${i}`, x, y, "✕", { anchor: "middle", dy: 5, bold: true }));
    chart.x.domain = [0, fig.get("steps")];
    const start = runs[0].gaps[0], shown = race.shown();
    // A path that is gone runs along the top.
    const top = 100 * Math.max(start, 1e-3), bounded = (gap) => (gap < top ? Math.max(gap, FLOOR) : top);
    chart.y.domain = [FLOOR, top];
    runs.forEach(({ title, lr, path, gaps }, i) => {
      const last = Math.min(shown, path.length - 1);
      map.line(`path ${i}`, path.slice(0, last + 1), { color: i, width: 2 });
      if (shown < path.length) map.dots(`head ${i}`, path.slice(last, last + 1), { color: i, radius: 5 });
      chart.line(`loss ${i}`, gaps.slice(0, last + 1).map((gap, k) => [k, bounded(gap)]),
        { color: i, width: 2, name: Number.isNaN(gaps[last]) ? `${title} gone` : tuned ? `${title} ${lr}` : title });
    });
    place();
    const words = (gap) => (Number.isNaN(gap) ? "gone" : gap < FLOOR ? "under 1e−12"
      : gap < 0.01 ? gap.toExponential(0).replace("-", "−") : gap.toPrecision(1));
    const last = ({ gaps }) => (Number.isNaN(gaps.at(-1)) ? Number.MAX_VALUE : gaps.at(-1));
    const order = [...runs].sort((a, b) => last(a) - last(b));
    const how = tuned ? "Each at its best rate" : `All at rate ${fig.get("lr")}`;
    const text = `${how}, after ${fig.get("steps")} steps: `
      + order.map(({ title, gaps }) => `${title} ${words(gaps.at(-1))}`).join(", ") + ".";
    map.describe(`${RACE_TITLES[name] ?? name} with the paths of six optimizers. ${text}`);
    chart.describe(`Loss above the minimum against the step. ${text}`);
    fig.say(text);
  });
}

export default { render };
