// The arithmetic of nbs/02_averages.ipynb, function for function; a test holds both to 1e-9.

/** Exponentially weighted average of `xs`; with `debias` step t is divided by 1 - beta^t. */
export function ewma(xs, beta, debias) {
  let v = 0;
  return xs.map((x, i) => {
    v = beta * v + (1 - beta) * x;
    return debias ? v / (1 - beta ** (i + 1)) : v;
  });
}

/** What each of the steps 1 ... t weighs in the average at step t, oldest first. */
export function ewmaWeights(t, beta, debias) {
  const share = debias ? 1 - beta ** t : 1;
  return Array.from({ length: t }, (_, i) => ((1 - beta) * beta ** (t - 1 - i)) / share);
}

/** The share (0 to 1) of an error of `size` that ResponsiveAnalogRead closes at once: all of it from size 1/snap on. */
export function snapCurve(size, snap) {
  return Math.min(1, 2 - 2 / (size * snap + 1));
}

/** One reading: state { value, error } -> next state. `error` averages the recent errors; under `sleep` nothing moves. */
export function responsiveStep(state, x, snap, sleep) {
  const gap = x - state.value;
  const error = state.error + 0.4 * (gap - state.error);
  const asleep = Math.abs(error) < sleep;
  return { value: asleep ? state.value : state.value + snapCurve(Math.abs(gap), snap) * gap, error };
}

/** The adaptive average of a whole signal; starts at its first value. */
export function responsive(xs, snap, sleep) {
  let state = { value: xs[0], error: 0 };
  return xs.map((x) => (state = responsiveStep(state, x, snap, sleep)).value);
}

/** Root of the mean square of a - b. */
export function rms(a, b) {
  return Math.sqrt(a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0) / Math.max(1, a.length));
}
