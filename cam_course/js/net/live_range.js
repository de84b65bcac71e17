// A range test that runs while the reader watches: losses, the band over the seeds, what the rules say, and trainings at what they say.
import { button, choice, select, slider } from "../lib/controls.js";
import { html } from "../lib/dom.js";
import { Plot } from "../lib/plot.js";
import { ewma } from "../math/averages.js";
import { shortNumber } from "../math/scale.js";
import { Lab, percent } from "./lab.js";
import { toPixels } from "./pixels.js";

const RULES = ["valley", "steep", "slide", "minimum"];
/** By optimizer: its name, and the rates of the test. */
const OPTIMIZERS = { sgd: ["SGD", 3e-3, 3], momentum: ["momentum", 1e-4, 1], nesterov: ["Nesterov", 1e-4, 1],
  rmsprop: ["RMSprop", 1e-5, 0.1], adam: ["Adam", 1e-5, 0.1], lion: ["Lion", 1e-6, 0.01] };
const SCHEDULES = ["constant", "one-cycle", "cosine", "step", "WSD"], FACTORS = [[0.1, "×0.1"], [1, "×1"], [10, "×10"]];
const short = (v) => shortNumber(+v.toPrecision(2));

/** Small pictures in a row. */
function strip(pictures, side, label) {
  const canvas = Object.assign(html("canvas", { role: "img", "aria-label": label, style: "width:100%;max-width:520px;image-rendering:pixelated;border-radius:6px" }),
    { width: (side + 1) * pictures.length - 1, height: side });
  pictures.forEach((planes, k) => canvas.getContext("2d").putImageData(new ImageData(toPixels(planes), side, side), k * (side + 1), 0));
  return canvas;
}

function render(context) {
  const lab = new Lab(context, "A range test that runs while you watch");
  let test = null, trained = null, doing = "", round = 0;

  return lab.open(({ classes, samples, batch, fresh }) => {
    const about = () => OPTIMIZERS[lab.get("optimizer")], rule = () => test?.spread?.rules[lab.get("rule")]?.rate ?? null;

    /** One long question; what it has so far is shown. A new one ends it. */
    async function ask(what, args, heard) {
      const mine = ++round, take = (part) => { if (mine === round && !lab.over) { heard(part); lab.invalidate(); } };
      lab.tell("");
      doing = what;
      lab.invalidate();
      try { take(await lab.engine.ask(what, args, { parts: take })); } catch (error) { if (mine === round) lab.tell(error.message); }
      if (mine === round) { doing = ""; lab.invalidate(); }
    }
    const run = () => {
      const [, low, high] = about();
      test = trained = null;
      ask("range", { optimizer: lab.get("optimizer"), low, high, steps: lab.get("steps"), seeds: lab.get("seeds") }, (got) => { test = got; });
    };
    const train = () => {
      if (rule() === null) return lab.tell(test?.spread ? `The rule ${lab.get("rule")} gives no rate here. Choose another one.` : "There is no rate yet. Run the test first.");
      trained = null;
      ask("train", { optimizer: lab.get("optimizer"), schedule: lab.get("schedule"), rates: FACTORS.map(([f]) => f * rule()), steps: lab.get("length") },
        (got) => { trained = got; });
    };
    const stop = () => {
      if (!doing) return;
      round++;
      doing = "";
      lab.engine.ask("stop").catch(() => {});              // the thread's newest question is another one now, so the long answer ends
      lab.invalidate();
    };
    const anew = () => { stop(); test = trained = null; };

    lab.add(strip(samples, lab.side, `Eight drawn pictures: ${classes.join(", ")}, twice. The discs have a blue badge, the squares an orange one.`));
    lab.row(select(lab, "optimizer", "optimizer", Object.entries(OPTIMIZERS).map(([key, [name]]) => [key, name])),
      button("Run the test", run), button("Stop", stop));
    lab.row(slider(lab, "steps", "steps of the test", { min: 40, max: 140, step: 10 }), slider(lab, "seeds", "seeds", { min: 1, max: 5, step: 1 }));
    const plot = new Plot(lab, { label: "Loss over learning rate", height: (w) => 0.24 * w + 150, margin: { right: 18 },
      x: { domain: [1e-4, 1], log: true, label: "learning rate" }, y: { domain: [0.5, 2.6], label: "loss", ticks: [0.5, 1, 1.5, 2] } });
    lab.row(choice(lab, "rule", "rule whose rate is trained with", RULES.map((name) => [name, name])));
    lab.row(select(lab, "schedule", "schedule", SCHEDULES.map((name) => [name, name])), button("Train at ×0.1, ×1 and ×10", train));
    lab.row(slider(lab, "length", "training steps", { min: 60, max: 300, step: 20 }));
    const below = new Plot(lab, { label: "Loss over steps of training", height: (w) => 0.16 * w + 120, margin: { right: 92 },
      x: { domain: [0, 120], label: "step" }, y: { domain: [0, 2.2], label: "loss, averaged", ticks: [0, 1, 2] } });
    for (const trait of ["optimizer", "steps", "seeds"]) lab.on(trait, anew);
    for (const trait of ["rule", "schedule", "length"]) lab.on(trait, () => { if (doing === "train") stop(); trained = null; });

    /** The test: points of the run that is on, the line of all and their band, and the rules. */
    function drawTest() {
      const [, low, high] = about(), { rates = [], losses = [], spread } = test ?? {}, now = losses.at(-1) ?? [];
      const least = Math.min(0.9, ...losses.flat()), top = 2.75;
      plot.x.domain = [low, high];
      plot.y.domain = [Math.max(0, least - 0.15), 2.9];
      plot.y.ticks = [0, 0.5, 1, 1.5, 2].filter((v) => v >= plot.y.domain[0]);
      losses.forEach((run, seed) => plot.dots(`losses ${seed}`, run.map((y, i) => [rates[i], y]), { radius: 2, opacity: run === now || !doing ? 0.9 : 0.35 }));
      if (doing === "range" && now.length) plot.dots("the last", [[rates[now.length - 1], now.at(-1)]], { color: 1, radius: 5 });
      if (!spread?.u.length) return;
      const xs = spread.u.map((u) => 10 ** u);
      plot.band("band", xs.map((x, i) => [x, spread.low[i], spread.high[i]]), { color: 0, opacity: 0.2 });
      plot.line("middle", xs.map((x, i) => [x, spread.middle[i]]), { color: 0 });
      const found = RULES.filter((name) => spread.rules[name].rate !== null).toSorted((a, b) => spread.rules[a].rate - spread.rules[b].rate);
      found.forEach((name, row) => {
        const { rate, least: from, most: to } = spread.rules[name], color = 1 + RULES.indexOf(name), y = top - 0.22 * row, right = plot.sx(rate) > plot.right - 120;
        const at = spread.middle[Math.min(xs.length - 1, Math.max(0, xs.findIndex((x) => x >= rate * 0.999)))];
        plot.line(`range ${name}`, [[from, y - 0.09], [to, y - 0.09]], { color, width: 4, opacity: 0.4 });
        plot.line(`stem ${name}`, [[rate, at], [rate, y]], { color, width: 1.5 });
        plot.dots(`dot ${name}`, [[rate, at]], { color, radius: 5 });
        plot.text(`name ${name}`, rate, y, `${name} ${short(rate)}`, { color, bold: true, dx: right ? -6 : 6, dy: 4, anchor: right ? "end" : "start" });
      });
    }

    function drawTraining() {
      below.x.domain = [0, lab.get("length")];
      (trained?.losses ?? []).forEach((run, i) => {
        const soft = ewma(run.filter(Number.isFinite), 0.9, true);
        below.line(`run ${i}`, soft.map((y, k) => [k + 1, y]), { color: i, name: `${FACTORS[i][1]} ${short(trained.rates[i])}` });
      });
    }

    function saidOfTest() {
      if (!test?.losses.length) return doing ? "The page draws its pictures." : `A net that guesses is right in ${percent(1 / classes.length)} of the pictures. Run the test.`;
      const { rates, losses, spread } = test, k = losses.at(-1).length;
      if (doing === "range") return `Seed ${losses.length} of ${lab.get("seeds")}, step ${k} of ${rates.length}: learning rate ${short(rates[Math.max(0, k - 1)])}, loss ${(losses.at(-1).at(-1) ?? NaN).toFixed(2)}.`;
      if (!spread) return "The test was stopped before its end.";
      const rules = RULES.filter((name) => spread.rules[name].rate !== null)
        .map((name) => `${name} ${short(spread.rules[name].rate)} (${short(spread.rules[name].least)} to ${short(spread.rules[name].most)})`);
      const many = spread.tests === 1 ? "One test" : `${spread.tests} tests`;
      return rules.length ? `${many} of at most ${rates.length} steps, batches of ${batch}. The rules read: ${rules.join(", ")}.`
        : `${many}, and no rule gives a rate: ${spread.why || "most tests show no clear fall"}. Take more steps.`;
    }

    function saidOfTraining() {
      if (!trained) return "";
      const { losses, right, stopped } = trained, steps = Math.max(...losses.map((run) => run.length));
      const names = FACTORS.map(([, name], i) => `${name} (${short(trained.rates[i])})`);
      if (!right) return ` Training${stopped ? " stopped" : ""}, step ${steps}: ${names.map((name, i) => `${name} loss ${(losses[i].at(-1) ?? NaN).toFixed(2)}`).join(", ")}.`;
      return ` After ${steps} steps, of ${fresh} new pictures are right: ${names.map((name, i) => `${name} ${right[i] === null ? "none, its numbers have overflowed" : percent(right[i])}`).join(", ")}.`;
    }

    lab.draw(["optimizer", "steps", "seeds", "rule", "schedule", "length"], () => {
      drawTest();
      drawTraining();
      const text = saidOfTest(), more = saidOfTraining();
      plot.describe(`Loss over learning rate, logarithmic. ${text}`);
      below.describe(more ? `Loss over steps of training, averaged.${more}` : "Loss over steps of training: nothing is trained yet.");
      lab.say(`${text}${more}`);
    });
  });
}

export default { render };
