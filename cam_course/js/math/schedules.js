// The arithmetic of nbs/23_schedules.ipynb and nbs/24_plateau.ipynb;
// tests/test_schedules.py and tests/test_plateau.py hold both to 1e-9.
import { hashNormal } from "./noise.js";

/** From values[0] to values[1] to ...: values[i] at step knots[i], along half cosines or straight lines. */
export function throughKnots(step, knots, values, annealStrategy) {
  const k = Math.min(step, knots.at(-1));
  let i = 0;
  while (i < knots.length - 2 && k > knots[i + 1]) i++;
  const length = knots[i + 1] - knots[i], part = length === 0 ? 1 : (k - knots[i]) / length;
  const [a, b] = [values[i], values[i + 1]];
  return annealStrategy === "cos" ? b + ((a - b) / 2) * (Math.cos(Math.PI * part) + 1) : a + (b - a) * part;
}

const oneCycleKnots = (total, pctStart, threePhase) => {
  const top = pctStart * total - 1;
  return threePhase ? [0, top, 2 * top, total - 1] : [0, top, total - 1];
};

export function oneCycle(step, maxLr, total, pctStart, annealStrategy, divFactor, finalDivFactor, threePhase) {
  const low = maxLr / divFactor, end = low / finalDivFactor;
  const values = threePhase ? [low, maxLr, low, end] : [low, maxLr, end];
  return throughKnots(step, oneCycleKnots(total, pctStart, threePhase), values, annealStrategy);
}

export function oneCycleMomentum(step, total, pctStart, annealStrategy, baseMomentum, maxMomentum, threePhase) {
  const values = [maxMomentum, baseMomentum, maxMomentum, ...(threePhase ? [maxMomentum] : [])];
  return throughKnots(step, oneCycleKnots(total, pctStart, threePhase), values, annealStrategy);
}

/** One step of heavy-ball descent on the means [E w², E wz, E z²] in one direction. */
export function stepMoments([ww, wz, zz], lr, momentum, curvature, variance) {
  const z2 = momentum ** 2 * zz + 2 * momentum * curvature * wz + curvature ** 2 * ww + variance;
  const wz2 = momentum * wz + curvature * ww;
  return [ww - 2 * lr * wz2 + lr ** 2 * z2, wz2 - lr * z2, z2];
}

/** Mean loss at the start and after each step; momenta: one per step. */
export function expectedLoss(lrs, momenta, curvatures, noise, start = 1) {
  let states = curvatures.map(() => [start ** 2, 0, 0]);
  const loss = () => 0.5 * states.reduce((sum, [ww], i) => sum + curvatures[i] * ww, 0), out = [loss()];
  lrs.forEach((lr, k) => {
    states = states.map((s, i) => stepMoments(s, lr, momenta[k], curvatures[i], noise ** 2));
    out.push(loss());
  });
  return out;
}

/** A factor that rises on a line from `start` to 1 in `total` steps; 1 without such steps. */
const warmup = (k, total, start) => (total ? start + ((1 - start) * Math.min(k, total)) / total : 1);

/** Half cosines from 1 down to 0, each `mult` times as long as the one before; mult > 1. */
export function warmRestarts(k, first, mult) {
  const start = (i) => (first * (mult ** i - 1)) / (mult - 1);
  let i = 0;
  while (k >= start(i + 1)) i++;
  return (1 + Math.cos((Math.PI * (k - start(i))) / (first * mult ** i))) / 2;
}

/** The rate of one of eight schedules at step k of `steps`, as a share of the highest. `share`: of the steps that warm up. */
export function scheduleShape(kind, k, steps, share) {
  const n = Math.round(share * steps), rest = steps - n, after = Math.max(k - n, 0), ramp = warmup(k, n, 0.01);
  const decay = Math.floor(steps / 5), part = (k - (steps - decay)) / decay, first = Math.max(n, 1);
  if (kind === "one-cycle") return oneCycle(k, 1, steps, share, "cos", 25, 1e4, false);
  if (kind === "inverse root") return Math.min((k + 1) / first, Math.sqrt(first / (k + 1)));
  if (kind === "WSD") return ramp * (1 - Math.sqrt(Math.min(Math.max(part, 0), 1)));
  if (kind === "step") return ramp * 0.1 ** Math.floor(after / Math.ceil(rest / 3));
  if (kind === "exponential") return ramp * (0.01 ** (1 / rest)) ** after;
  if (kind === "cosine") return (ramp * (1 + Math.cos((Math.PI * after) / rest))) / 2;
  if (kind === "restarts") return ramp * warmRestarts(after, rest / 7, 2);
  return ramp;
}

/** The constant rate, of 60 from 0.003 to 1, under which the loss ends lowest: [rate, losses]. */
export function bestConstant(steps, curvatures, noise) {
  const momenta = Array(steps).fill(0.9);
  let best = [NaN, [Infinity]];
  for (let i = 0; i < 60; i++) {
    const rate = 0.003 * (1 / 0.003) ** (i / 59), losses = expectedLoss(Array(steps).fill(rate), momenta, curvatures, noise);
    if (losses.at(-1) < best[1].at(-1)) best = [rate, losses];
  }
  return best;
}

/** ReduceLROnPlateau in mode "min" without cooldown: one epoch. s: { lr, best, bad }. */
export function plateauStep(s, loss, { patience, threshold, thresholdMode, factor }) {
  const bar = thresholdMode === "rel" ? s.best * (1 - threshold) : s.best - threshold;
  const better = loss < bar, bad = better ? 0 : s.bad + 1, due = bad > patience;
  const cut = due && s.lr - s.lr * factor > 1e-8;          // a smaller cut isn't made: torch's eps
  return { lr: cut ? s.lr * factor : s.lr, best: better ? loss : s.best, bad: due ? 0 : bad, counted: bad, bar, cut };
}

/** A training that reacts, in a valley: one entry an epoch, { lr, loss, truth, counted, bar, cut }; the scheduler sees `loss`. */
export function plateauTraining(epochs, lr, noise, seed, settings) {
  const wobble = hashNormal(seed, epochs), curvatures = [0.03, 1], out = [];
  let state = { lr, best: Infinity, bad: 0 }, moments = curvatures.map(() => [1, 0, 0]);
  for (let e = 0; e < epochs; e++) {
    for (let k = 0; k < 20; k++) moments = moments.map((m, i) => stepMoments(m, state.lr, 0, curvatures[i], 0.3 ** 2));
    const truth = 0.5 * moments.reduce((sum, [ww], i) => sum + curvatures[i] * ww, 0), now = state.lr;
    const loss = truth * Math.exp(noise * wobble[e]);
    state = plateauStep(state, loss, settings);
    out.push({ lr: now, loss, truth, counted: state.counted, bar: state.bar, cut: state.cut });
  }
  return out;
}
