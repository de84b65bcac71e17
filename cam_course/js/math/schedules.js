// The arithmetic of nbs/21_schedules.ipynb and nbs/21_schedules_plateau.ipynb;
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

/** ReduceLROnPlateau in mode "min" without cooldown: one epoch. s: { lr, best, bad }. */
export function plateauStep(s, loss, { patience, threshold, thresholdMode, factor }) {
  const bar = thresholdMode === "rel" ? s.best * (1 - threshold) : s.best - threshold;
  const better = loss < bar, bad = better ? 0 : s.bad + 1, due = bad > patience;
  const cut = due && s.lr - s.lr * factor > 1e-8;          // a smaller cut isn't made: torch's eps
  return { lr: cut ? s.lr * factor : s.lr, best: better ? loss : s.best, bad: due ? 0 : bad, counted: bad, bar, cut };
}

/** A training that reacts: one entry an epoch, { lr, loss, counted, bar, cut }. */
export function plateauTraining(epochs, lr, noise, seed, settings) {
  const wobble = hashNormal(seed, epochs), out = [];
  let state = { lr, best: Infinity, bad: 0 }, ww = [1, 0, 0];
  for (let e = 0; e < epochs; e++) {
    for (let k = 0; k < 20; k++) ww = stepMoments(ww, state.lr, 0, 1, 1);
    const loss = ww[0] * Math.exp(noise * wobble[e]), now = state.lr;
    state = plateauStep(state, loss, settings);
    out.push({ lr: now, loss, counted: state.counted, bar: state.bar, cut: state.cut });
  }
  return out;
}
