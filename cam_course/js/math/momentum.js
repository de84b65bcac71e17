// The arithmetic of nbs/04_momentum.ipynb, function for function; tests/test_momentum.py holds both to 1e-9.

/** Error factor per step of momentum in one direction: the larger |root| of r² - trace r + det. */
export function spectralRadius(lr, beta, curvature, nesterov) {
  const s = 1 - lr * curvature;
  const trace = nesterov ? (1 + beta) * s : beta + s, det = nesterov ? beta * s : beta;
  const gap = trace ** 2 - 4 * det;
  return gap < 0 ? Math.sqrt(Math.abs(det)) : (Math.abs(trace) + Math.sqrt(gap)) / 2;
}

/** True where the roots are complex: the error swings about the minimum. */
export function swings(lr, beta, curvature, nesterov) {
  const s = 1 - lr * curvature;
  return nesterov ? ((1 + beta) * s) ** 2 < 4 * beta * s : (beta + s) ** 2 < 4 * beta;
}

/** The β of fastest decay without oscillation. */
export const criticalBeta = (lr, curvature) => (1 - Math.sqrt(lr * curvature)) ** 2;

/** The lr·curvature at which the iteration stops converging. */
export const stabilityLimit = (beta, nesterov) => (2 + 2 * beta) / (nesterov ? 1 + 2 * beta : 1);

/** Rate, β and error factor per step of fastest decay for curvatures in [low, high]. */
export function bestMomentum(low, high, nesterov) {
  if (nesterov) {
    const q = Math.sqrt((3 * high) / low + 1);
    return [4 / (3 * high + low), (q - 2) / (q + 2), 1 - 2 / q];
  }
  const a = Math.sqrt(low), b = Math.sqrt(high), root = (b - a) / (b + a);
  return [(2 / (a + b)) ** 2, root ** 2, root];
}

/** Momentum from rest on ½ Σ curvatureᵢ wᵢ²: steps + 1 points. With nesterov: the look-ahead points, as in torch. */
export function momentumQuadratic(curvatures, start, lr, beta, steps, nesterov) {
  const path = [start];
  let z = start.map(() => 0);
  for (let k = 0; k < steps; k++) {
    const w = path[k], g = w.map((v, i) => curvatures[i] * v);
    z = z.map((v, i) => beta * v + g[i]);
    path.push(w.map((v, i) => v - lr * (nesterov ? g[i] + beta * z[i] : z[i])));
  }
  return path;
}

/** First step from which the largest coordinate stays under tol times the start's; path.length when it never does. */
export function stepsTo(path, tol) {
  const error = path.map((p) => Math.max(...p.map(Math.abs)));
  return path.length - error.toReversed().findIndex((e) => !(e < tol * error[0]));
}

/** How far coordinate i of the path goes beyond 0, as a share of where it starts; 0 if it never gets there. */
export const swingPast = (path, i) => Math.max(0, ...path.map((p) => -p[i] / path[0][i]));

/** A convex loss with curvature 25, 1 and 25 on its three pieces (Lessard, Recht and Packard 2016); least at 0. */
export const kink = (w) => (w < 1 ? 12.5 * w * w : w < 2 ? 0.5 * w * w + 24 * w - 12 : 12.5 * w * w - 24 * w + 36);
export const kinkSlope = (w) => (w < 1 ? 25 * w : w < 2 ? w + 24 : 25 * w - 24);

/** Each method with its textbook rate and β for curvatures in [1, 25]: [rate, β, Nesterov]. */
export const KINK_METHODS = { "heavy ball": [1 / 9, 4 / 9, false], Nesterov: [1 / 25, 2 / 3, true], plain: [2 / 26, 0, false] };

/** Start and iterates of one of them; for Nesterov the look-ahead points. */
export function kinkPath(start, method, steps) {
  const [lr, beta, nesterov] = KINK_METHODS[method], path = [start];
  let z = 0;
  for (let k = 0; k < steps; k++) {
    const g = kinkSlope(path[k]);
    z = beta * z + g;
    path.push(path[k] - lr * (nesterov ? g + beta * z : z));
  }
  return path;
}
