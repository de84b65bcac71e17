// The arithmetic of nbs/08_weight_averaging.ipynb, function for function; tests/test_weight_averaging.py holds both to 1e-9.

/** The valley ½ (0.1 x² + y²), and where the walk begins. */
export const VALLEY = { curvatures: [0.1, 1], from: [-4.5, 2] };

/** The loss at a point. */
export const valleyLoss = ([x, y]) => (VALLEY.curvatures[0] * x * x + VALLEY.curvatures[1] * y * y) / 2;

/** Start and points of descent with noisy gradients; `noise` holds two normal numbers a step. */
export function noisyWalk(lr, noise) {
  const path = [VALLEY.from];
  for (let t = 0; 2 * t < noise.length; t++)
    path.push(path[t].map((w, i) => w - lr * (VALLEY.curvatures[i] * w + noise[2 * t + i])));
  return path;
}

/** The debiased exponential average of a path after each step; up to step `start` it is the path itself. */
export function averagedPath(path, beta, start) {
  const out = path.map((p) => [...p]);
  for (let t = 1; t < path.length - start; t++) {
    const share = (1 - beta) / (1 - beta ** t), before = out[start + t - 1];
    out[start + t] = before.map((v, i) => v + share * (path[start + t][i] - v));
  }
  return out;
}
