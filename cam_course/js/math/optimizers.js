// The arithmetic of nbs/05_optimizers.ipynb: six optimizers race on six surfaces, eight are looked at one by one.
// tests/test_optimizers.py holds both to 1e-9.

const twist = (a, b, degrees) => {                         // matrix with eigenvalues a, b, turned by an angle
  const c = Math.cos((degrees * Math.PI) / 180), s = Math.sin((degrees * Math.PI) / 180);
  return [c * a * c + s * b * s, c * a * s - s * b * c, s * a * s + c * b * c];
};

const quadraticSurface = (a, b, degrees, start) => {
  const [p, q, r] = twist(a, b, degrees);
  return { limits: [-5, 5, -3, 3], start, minimum: 0, minima: [[0, 0]],
    f: (x, y) => 0.5 * ((x * p + y * q) * x + (x * q + y * r) * y), grad: (x, y) => [x * p + y * q, x * q + y * r] };
};

/** The surfaces of nbs/03_descent.ipynb that the race runs on: f, gradient, limits of the picture, minima. */
export const RACE_SURFACES = {
  bowl: quadraticSurface(1, 2, 0, [-4, 2.5]),
  ravine: quadraticSurface(0.1, 5, 0, [-4.5, 1.5]),
  "tilted ravine": quadraticSurface(0.1, 5, 30, [-4.5, -1]),
  saddle: { limits: [-2.5, 2.5, -1.5, 1.5], start: [-2, 0.01], minimum: -0.25, minima: [[0, -1], [0, 1]],
    f: (x, y) => x ** 2 / 2 + y ** 4 / 4 - y ** 2 / 2, grad: (x, y) => [x, y ** 3 - y] },
  beale: { limits: [-4.5, 4.5, -4.5, 4.5], start: [1, 1.5], minimum: 0, minima: [[3, 0.5]],
    f: (x, y) => (1.5 - x + x * y) ** 2 + (2.25 - x + x * y ** 2) ** 2 + (2.625 - x + x * y ** 3) ** 2,
    grad: (x, y) => {
      const a = 1.5 - x + x * y, b = 2.25 - x + x * y ** 2, c = 2.625 - x + x * y ** 3;
      return [2 * (a * (y - 1) + b * (y ** 2 - 1) + c * (y ** 3 - 1)), 2 * x * (a + 2 * b * y + 3 * c * y ** 2)];
    } },
  rosenbrock: { limits: [-2, 2, -1, 3], start: [-1.5, 2], minimum: 0, minima: [[1, 1]],
    f: (x, y) => (1 - x) ** 2 + 100 * (y - x ** 2) ** 2,
    grad: (x, y) => [-2 * (1 - x) - 400 * x * (y - x ** 2), 200 * (y - x ** 2)] },
};

// Each makes a function g -> [direction, rate] for ONE weight, with its state inside; the step is -lr * direction, and the
// weight's own rate is lr * rate.
const divided = (square, eps) => {
  let s = 0;
  return (g) => { s = square(s, g); return [g / (Math.sqrt(s) + eps), 1 / (Math.sqrt(s) + eps)]; };
};
export const DIRECTIONS = {
  sgd: () => (g) => [g, 1],
  momentum: (mu = 0.9) => { let v = 0; return (g) => [(v = mu * v + g), 1]; },
  nesterov: (mu = 0.9) => { let v = 0; return (g) => { v = mu * v + g; return [g + mu * v, 1]; }; },
  adagrad: (eps = 1e-10) => divided((s, g) => s + g * g, eps),
  rmsprop: (alpha = 0.99, eps = 1e-8) => divided((v, g) => alpha * v + (1 - alpha) * g * g, eps),
  adadelta: (rho = 0.9, eps = 1e-6) => {
    let v = 0, u = 0;
    return (g) => {
      v = rho * v + (1 - rho) * g * g;
      const d = (Math.sqrt(u + eps) / Math.sqrt(v + eps)) * g;
      u = rho * u + (1 - rho) * d * d;
      return [d, Math.sqrt(u + eps) / Math.sqrt(v + eps)];
    };
  },
  adam: (beta1 = 0.9, beta2 = 0.999, eps = 1e-8) => {
    let m = 0, v = 0, t = 0;
    return (g) => {
      t += 1;
      m = beta1 * m + (1 - beta1) * g;
      v = beta2 * v + (1 - beta2) * g * g;
      const root = Math.sqrt(v / (1 - beta2 ** t)) + eps;
      return [m / (1 - beta1 ** t) / root, 1 / root];
    };
  },
  lion: (beta1 = 0.9, beta2 = 0.99) => {
    let m = 0;
    return (g) => {
      const d = Math.sign(beta1 * m + (1 - beta1) * g);
      m = beta2 * m + (1 - beta2) * g;
      return [d, 1];
    };
  },
};

/**
 * The path and the rate of each weight after every step: { path: [[x, y], ...], rates: [[x, y], ...] }, steps+1 and steps rows.
 * NaN from where the path has gone further than 1e6.
 */
export function followGradient(grad, optimizer, start, lr, steps) {
  const step = [DIRECTIONS[optimizer](), DIRECTIONS[optimizer]()], path = [start], rates = [];
  for (let k = 0, [x, y] = start; k < steps; k++) {
    const g = grad(x, y), [dx, rx] = step[0](g[0]), [dy, ry] = step[1](g[1]);
    x -= lr * dx;
    y -= lr * dy;
    if (!(Math.abs(x) <= 1e6 && Math.abs(y) <= 1e6)) x = y = NaN;
    path.push([x, y]);
    rates.push([lr * rx, lr * ry]);
  }
  return { path, rates };
}

/** The same on a surface of the race, by name. */
export function pathWithRates(optimizer, surfaceName, start, lr, steps) {
  return followGradient(RACE_SURFACES[surfaceName].grad, optimizer, start, lr, steps);
}

/** The first step from which every gap stays under a thousandth of the first; gaps.length if there is none. */
export function arrival(gaps) {
  const late = gaps.findLastIndex((gap) => !(gap < 1e-3 * gaps[0]));
  return late + 1;
}

/** Rates 0.0001, 0.0002, 0.0005, ... 50. */
export const RACE_RATES = [-4, -3, -2, -1, 0, 1].flatMap((k) => [1, 2, 5].map((m) => +`${m}e${k}`));

/** The start and every iterate, [[x, y], ...]. */
export function raceTrajectory(optimizer, surfaceName, start, lr, steps) {
  return pathWithRates(optimizer, surfaceName, start, lr, steps).path;
}

/** Loss above the surface's lowest value, for each point. */
export function lossGap(surfaceName, path) {
  const { f, minimum } = RACE_SURFACES[surfaceName];
  return path.map(([x, y]) => (Number.isNaN(x) ? NaN : Math.max(f(x, y) - minimum, 0)));
}

/** Mean over the steps of log10(loss gap + 1e-12); Infinity for a path that leaves the doubled picture. */
export function raceScore(surfaceName, path) {
  const [x0, x1, y0, y1] = RACE_SURFACES[surfaceName].limits;
  const inside = ([x, y]) => Math.abs(x - (x0 + x1) / 2) <= x1 - x0 && Math.abs(y - (y0 + y1) / 2) <= y1 - y0;
  if (!path.every(inside)) return Infinity;
  const gaps = lossGap(surfaceName, path).slice(1);
  return gaps.reduce((sum, gap) => sum + Math.log10(gap + 1e-12), 0) / gaps.length;
}

/** The rate of the grid with the best score from this start; the first of equal ones. */
export function tunedRate(optimizer, surfaceName, start, steps) {
  const run = (lr) => raceTrajectory(optimizer, surfaceName, start, lr, steps);
  const scores = RACE_RATES.map((lr) => raceScore(surfaceName, run(lr)));
  return RACE_RATES[scores.indexOf(Math.min(...scores))];
}
