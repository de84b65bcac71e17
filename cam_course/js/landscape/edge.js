// Chapter "Which minimum?", the opening figure: sharpness over training for squared and logistic loss, against 2/lr.
import { Figure } from "../lib/figure.js";
import { choice, slider } from "../lib/controls.js";
import { playing } from "../lib/play.js";
import { beside, Plot } from "../lib/plot.js";

const SECONDS = 8;                                         // one playing of the whole training
const short = (v) => String(+v.toPrecision(2));

function render(context) {
  const fig = new Figure(context, "Sharpness of a small net over its training, with two losses");
  const places = beside(fig, 2), height = () => (fig.root.clientWidth < 500 ? 186 : 236);
  const losses = fig.get("losses"), at = fig.get("at"), last = at.length - 1;
  const plots = losses.map(({ name, runs }, i) => {
    const top = Math.max(...runs.flatMap((r) => r.sharpness));
    return new Plot(fig, { parent: places[i], label: "", height, margin: { left: 34, right: 46 },
      x: { domain: [1, at[last]], log: true, label: "step" },
      y: { domain: [0, 1.15 * top], label: `sharpness, ${name} loss` } });
  });

  const film = playing(fig, "moment", { last, seconds: SECONDS });
  const rates = losses[0].runs.map((r, i) => [i, losses.map((l) => short(l.runs[i].lr)).join(" | ")]);
  fig.row(choice(fig, "run", "Learning rate of the two losses", rates), film.button);
  fig.row(slider(fig, "moment", "step", { min: 0, max: last, step: 1, format: (i) => String(at[i]) }));

  return fig.draw(["run", "moment"], () => {
    film.label();
    const chosen = fig.get("run"), now = fig.get("moment");
    const words = losses.map(({ name, runs }, i) => {
      const plot = plots[i], order = [...runs.keys()].filter((k) => k !== chosen).concat(chosen);
      for (const k of order) {
        const { lr, sharpness } = runs[k], mine = k === chosen, edge = 2 / lr;
        const look = { color: k, width: mine ? 3 : 1.3, opacity: mine ? 1 : 0.5 };
        plot.line(`sharpness ${k}`, sharpness.slice(0, now + 1).map((v, j) => [Math.max(1, at[j]), v]), look);
        if (mine) plot.dots("now", [[Math.max(1, at[now]), sharpness[now]]], { color: k, radius: 5 });
        if (edge > plot.y.domain[1]) continue;
        plot.rule(`edge ${k}`, { y: edge, color: k, dash: mine ? "6 4" : "2 5" });
        plot.text(`edge name ${k}`, plot.x.domain[1], edge, `2/${short(lr)}`, { color: k, dx: 5, dy: 4, bold: mine });
      }
      const { lr, sharpness } = runs[chosen], share = Math.round((100 * sharpness[now] * lr) / 2);
      const said = `${name} loss, rate ${short(lr)}: sharpness ${short(sharpness[now])}, ${share} % of 2/α = ${short(2 / lr)}`;
      plot.describe(`Sharpness against the step, with a line at 2/α for each rate. At step ${at[now]}, ${said}.`);
      return said;
    });
    fig.say(`Step ${at[now]}. ${words.join("; ")}.`.replace(". s", ". S"));
  });
}

export default { render };
