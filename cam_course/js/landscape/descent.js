// Chapter "Which minimum?": three recorded trainings of one net on the plane that holds most of their movement.
import { Figure } from "../lib/figure.js";
import { choice, slider } from "../lib/controls.js";
import { playing } from "../lib/play.js";
import { beside, Plot } from "../lib/plot.js";
import { surface } from "../lib/surface.js";
import { extent } from "../math/scale.js";
import { bilinear, nearestStep, unpacked } from "../math/landscape.js";

const SECONDS = 12;                                        // one playing of the whole training
const short = (v) => String(+v.toPrecision(3));

function render(context) {
  const fig = new Figure(context, "Three trainings of one small net on a slice of its loss");
  const map = new Plot(fig, { label: "", height: (w) => 0.42 * w + 90,
    x: { label: "first principal direction" }, y: { label: "second" } });
  const shade = surface(map, { width: 200, height: 140 }), [left, right] = beside(fig, 2);
  const losses = new Plot(fig, { parent: left, label: "", height: 220, margin: { left: 50, right: 14 },
    x: { label: "step", ticks: 3 }, y: { log: true, label: "loss of the net" } });
  const curvatures = new Plot(fig, { parent: right, label: "", height: 220, margin: { left: 40, right: 52 },
    x: { label: "step", ticks: 3 }, y: { label: "sharpness" } });

  const runs = fig.get("runs"), box = fig.get("extent"), columns = fig.get("columns"), last = fig.get("steps");
  const grid = unpacked(fig.get("codes"), ...fig.get("levels"));             // log10 of the loss
  const height = (x, y) => bilinear(grid, columns, box, x, y);
  map.x.domain = box.slice(0, 2);
  map.y.domain = box.slice(2);
  losses.x.domain = curvatures.x.domain = [0, 1.03 * last];
  const [lo, hi] = extent(runs.flatMap((r) => r.loss));
  losses.y.domain = [lo * 0.8, hi * 1.25];
  const sharpest = Math.max(...runs.flatMap((r) => r.sharpness));
  const edges = runs.map((r) => 2 / r.lr).filter((v) => v < 1.5 * sharpest);    // others are off the picture
  curvatures.y.domain = [0, 1.08 * Math.max(sharpest, ...edges)];

  const film = playing(fig, "step", { last, seconds: SECONDS, every: fig.get("every") });
  fig.row(choice(fig, "run", "Learning rate", runs.map((r, i) => [i, `lr ${short(r.lr)}`])), film.button);
  fig.row(slider(fig, "step", "step", { min: 0, max: last, step: fig.get("every"), format: String }));

  return fig.draw(["run", "step"], () => {
    film.label();
    const chosen = fig.get("run"), order = [...runs.keys()].filter((i) => i !== chosen).concat(chosen);
    shade(height, { key: "loss", bands: 16 });
    for (const i of order) {
      const { lr, at, points, loss, sharpness } = runs[i], now = nearestStep(at, fig.get("step"));
      const mine = i === chosen, look = { color: i, width: mine ? 2.5 : 1.2, opacity: mine ? 1 : 0.55 };
      const seen = (values) => values.slice(0, now + 1).map((v, k) => [at[k], v]);
      map.line(`path ${i}`, points.slice(0, now + 1), look);
      map.dots(`head ${i}`, [points[now]], { color: i, radius: mine ? 7 : 4 });
      losses.line(`loss ${i}`, seen(loss), look);
      losses.dots(`now ${i}`, [[at[now], loss[now]]], { color: i, radius: mine ? 5 : 3 });
      curvatures.line(`sharp ${i}`, seen(sharpness), look);
      curvatures.dots(`now ${i}`, [[at[now], sharpness[now]]], { color: i, radius: mine ? 5 : 3 });
      if (2 / lr < curvatures.y.domain[1]) {
        curvatures.rule(`edge ${i}`, { y: 2 / lr, color: i, dash: mine ? "6 4" : "2 5" });
        curvatures.text(`edge name ${i}`, 1.03 * last, 2 / lr, `2/${short(lr)}`, { color: i, dx: 6, dy: 4, bold: mine });
      }
    }
    const { lr, at, points, loss, sharpness } = runs[chosen], now = nearestStep(at, fig.get("step"));
    map.dots("start", [points[0]], { color: "--ink", radius: 5 });
    map.text("start name", ...points[0], "start", { dx: 9, dy: -8 });
    const text = `lr ${short(lr)}, step ${at[now]}: loss ${short(loss[now])} `
      + `(${short(10 ** height(...points[now]))} on the slice beneath the dot), sharpness ${short(sharpness[now])}, `
      + `${Math.round((100 * sharpness[now] * lr) / 2)} % of 2/lr = ${short(2 / lr)}.`;
    map.describe(`The loss on a plane, with three paths from one start. ${text}`);
    losses.describe(`Loss against the step. ${text}`);
    curvatures.describe(`Sharpness against the step, with a line at 2/lr for each learning rate. ${text}`);
    fig.say(text);
  });
}

export default { render };
