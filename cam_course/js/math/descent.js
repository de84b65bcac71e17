// The arithmetic of nbs/03_descent.ipynb on the quadratic ½ Σ λᵢwᵢ², function for function.

/** What one step of gradient descent multiplies each direction's error by: 1 - lr λ. */
export const errorFactors = (lr, curvatures) => curvatures.map((c) => 1 - lr * c);

/** The rate that treats the flattest and the steepest direction alike, and the error factor per step that it gives. */
export const bestRate = (low, high) => [2 / (low + high), (high - low) / (high + low)];

/** Steps until factor^steps <= tol: 1 when the factor is 0, Infinity when it never shrinks. */
export function stepsNeeded(factor, tol) {
  const f = Math.abs(factor);
  if (f >= 1) return Infinity;
  return f === 0 ? 1 : Math.max(1, Math.ceil(Math.log(tol) / Math.log(f)));
}

/** Start and iterates of plain gradient descent: steps + 1 points. */
export function descendQuadratic(curvatures, start, lr, steps) {
  const path = [start];
  for (let k = 0; k < steps; k++) path.push(path[k].map((w, i) => w - lr * (curvatures[i] * w)));
  return path;
}
