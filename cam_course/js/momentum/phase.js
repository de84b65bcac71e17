// Chapter "Momentum": the map of (αλ, β). A valley is a bar on it: its two ends are a factor κ apart.
import { Figure } from "../lib/figure.js";
import { button, choice, slider } from "../lib/controls.js";
import { beside, Plot } from "../lib/plot.js";
import { handle } from "../lib/handle.js";
import { surface } from "../lib/surface.js";
import { shortNumber } from "../math/scale.js";
import { bestMomentum, criticalBeta, momentumQuadratic } from "../math/momentum.js";
import { spectralRadius, stabilityLimit, stepsTo, swings } from "../math/momentum.js";

const STEPS = 120, PATIENCE = 3000, START = [-4, 2];
const LO = -3.2, HI = 1.3;                                  // the x axis is log10(αλ); the steep curvature L is 1
const clamp = (v, lo, hi) => Math.max(lo, Math.min(hi, v));
const short = (v) => String(+v.toPrecision(3));
const BETAS = Array.from({ length: 101 }, (_, i) => i / 100);
const XS = Array.from({ length: 181 }, (_, i) => LO + i * 0.025);

/** The border of the swinging region, as [log10 αλ, β]. */
const borders = { false: XS.map((x) => [x, criticalBeta(10 ** x, 1)]).filter(([, b]) => b <= 1),
  true: XS.filter((x) => x < 0).map((x) => {                          // (1+β)²(1-x) = 4β, the root below 1
    const s = 1 - 10 ** x;
    return [x, ((1 - Math.sqrt(1 - s)) ** 2) / s];
  }) };

/** What the map shades: the log of the steps per factor e, from half a step to a thousand. */
const patience = (rate) => Math.log(rate >= 1 ? 1000 : clamp(-1 / Math.log(rate), 0.5, 1000));

function manner(rate, lr, beta, curvature, nesterov) {
  if (rate > 1 + 1e-9) return "explodes";
  if (swings(lr, beta, curvature, nesterov)) return "swings";
  const s = 1 - lr * curvature;
  return (nesterov ? s : beta + s) < 0 ? "flips sides" : "creeps";
}

function render(context) {
  const fig = new Figure(context, "Phase diagram of momentum: learning rate, memory and the error factor per step");
  const map = new Plot(fig, { label: "Error factor per step over learning rate times curvature and beta",
    height: (w) => Math.max(230, 0.34 * w + 72), x: { domain: [LO, HI], label: "α × curvature", ticks: [-3, -2, -1, 0, 1],
      format: (v) => shortNumber(+(10 ** v).toPrecision(1)) },
    y: { domain: [-0.03, 1], label: "β", ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] } });
  const shade = surface(map, { width: 200, height: 120 }), [left, right] = beside(fig, 2);
  const plane = new Plot(fig, { parent: left, label: "Path in the valley", height: 202, margin: { right: 14 },
    x: { domain: [-5, 5], label: "w₁, along" }, y: { domain: [-3, 3], label: "w₂, across" } });
  const valley = surface(plane, { width: 120, height: 80 });
  const errors = new Plot(fig, { parent: right, label: "Distance from the minimum in each direction", height: 202,
    margin: { left: 58, right: 58 }, x: { domain: [0, STEPS], label: "step" },
    y: { domain: [1e-4, 30], log: true, label: "distance" } });

  const move = (alpha, beta) => {
    fig.set("alpha", clamp(alpha, 10 ** LO, 10 ** HI));
    fig.set("beta", clamp(beta, 0, 0.999));
  };
  const place = handle(map, { label: "Steep end of the valley: learning rate and beta", step: [0.02, 0.01],
    get: () => [Math.log10(fig.get("alpha")), fig.get("beta")],
    set: ([x, b]) => move(+(10 ** x).toPrecision(4), +b.toFixed(4)),
    format: ([x, b]) => `α ${short(10 ** x)}, β ${b.toFixed(3)}` });
  fig.row(slider(fig, "kappa", "condition κ", { min: 1, max: 1000, log: true, steps: 60, format: short }));
  fig.row(choice(fig, "nesterov", "Method", [[false, "heavy ball"], [true, "Nesterov"]]),
    button("Best α, β", () => move(...bestMomentum(1 / fig.get("kappa"), 1, fig.get("nesterov")))),
    button("Best without memory", () => move(2 / (1 + 1 / fig.get("kappa")), 0)));

  return fig.draw(["alpha", "beta", "kappa", "nesterov"], () => {
    const [alpha, beta, kappa, nesterov] = ["alpha", "beta", "kappa", "nesterov"].map((n) => fig.get(n));
    const curvatures = [1 / kappa, 1], rates = curvatures.map((c) => spectralRadius(alpha, beta, c, nesterov));
    shade((x, b) => patience(spectralRadius(10 ** x, b, 1, nesterov)), { key: nesterov, bands: 14 });
    map.band("explodes", XS.map((x) => {                     // below this β (heavy ball) or above it (Nesterov)
      const a = 10 ** x, edge = nesterov ? (2 - a) / (2 * a - 2) : a / 2 - 1;
      return nesterov ? [x, a <= 4 / 3 ? 1 : clamp(edge, -0.03, 1), 1] : [x, -0.03, clamp(edge, -0.03, 1)];
    }), { color: 1, opacity: 0.3 });
    map.line("stability", BETAS.map((b) => [Math.log10(stabilityLimit(b, nesterov)), b]), { color: 1, width: 2 });
    map.line("critical", borders[nesterov], { color: "--ink", width: 1.5, dash: "5 4" });
    if (map.w > 480) map.text("creeps", LO, 0, "creeps", { dx: 10, dy: -12 });
    map.text("swings", -1.6, nesterov ? 0.93 : 0.9, "swings", { anchor: "middle" });
    if (map.w > 480) map.text("explodes name", HI, nesterov ? 0.5 : 0.1, "explodes", { anchor: "end", dx: -6 });

    const ends = [[Math.log10(alpha / kappa), beta], [Math.log10(alpha), beta]];
    map.line("bar", ends, { color: "--ink", width: 3 });
    map.dots("flat end", [ends[0]], { color: 0, radius: 7 });
    const name = { bold: true, anchor: "middle" }, under = beta > 0.12;
    map.text("flat name", ...ends[0], "along", { ...name, color: 0, dy: under ? 24 : -14 });
    map.text("steep name", ...ends[1], "across", { ...name, color: 1, dy: under ? 28 : -18 });
    place();

    valley((x, y) => curvatures[0] * x * x + y * y, { key: kappa, transform: Math.sqrt, bands: 10 });
    const whole = momentumQuadratic(curvatures, START, alpha, beta, PATIENCE, nesterov);
    const path = whole.slice(0, STEPS + 1);
    const end = path.findIndex((p) => p.some((v) => Math.abs(v) > 1e3)), seen = end < 0 ? path : path.slice(0, end + 1);
    plane.line("path", seen, { color: 2, width: 2 });
    plane.dots("iterates", seen, { color: 2, radius: 2.5 });
    plane.dots("minimum", [[0, 0]], { color: "--ink", radius: 4 });
    ["along", "across"].forEach((way, i) => {
      const distances = path.map((p, k) => [k, Math.abs(p[i])]).filter(([, v]) => v > 2e-4 && v < 1e6);
      errors.line(way, distances, { color: i, name: way, width: 2 });
    });

    const steps = stepsTo(whole, 1e-3), [a, b, best] = bestMomentum(1 / kappa, 1, nesterov);
    fig.say(`α = ${short(alpha)}/L, β = ${beta.toFixed(3)}: `
      + `across, it ${manner(rates[1], alpha, beta, 1, nesterov)} (× ${rates[1].toFixed(3)} a step); `
      + `along, it ${manner(rates[0], alpha, beta, 1 / kappa, nesterov)} (× ${rates[0].toFixed(3)}). `
      + (steps <= PATIENCE ? `${steps} steps to 1/1000. ` : `It doesn't arrive within ${PATIENCE} steps. `)
      + `Best for κ = ${short(kappa)}: α ${short(a)}, β ${b.toFixed(3)}, × ${best.toFixed(3)}.`);
  });
}

export default { render };
