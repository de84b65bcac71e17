// The arithmetic of nbs/22_gradient_noise.ipynb, function for function; tests/test_noise_floor.py holds both to 1e-9.

/** Positions of one noisy descent on w²/2, the start first; `noise` holds one normal number a step. */
export function noisyPositions(start, lr, beta, batch, noise) {
  const path = [start];
  let z = 0;
  for (const n of noise) {
    const w = path.at(-1);
    z = beta * z + w + n / Math.sqrt(batch);
    path.push(w - lr * z);
  }
  return path;
}

/** The mean of the loss w²/2 over all such descents, exactly: at the start and after each step. */
export function expectedLoss(start, lr, beta, batch, steps) {
  const out = [start ** 2 / 2];
  let [ww, wz, zz] = [start ** 2, 0, 0];                   // E w², E wz, E z²
  for (let k = 0; k < steps; k++) {
    zz = beta ** 2 * zz + 2 * beta * wz + ww + 1 / batch;
    wz = beta * wz + ww;
    [ww, wz] = [ww - 2 * lr * wz + lr ** 2 * zz, wz - lr * zz];
    out.push(ww / 2);
  }
  return out;
}

/** Where it ends. */
export const noiseFloor = (lr, beta, batch) => (lr * (1 + beta)) / (2 * batch * (1 - beta) * (2 * (1 + beta) - lr));

/** The first step from which on the mean loss stays within 10 % of the floor; -1 if that is later than the last. */
export function arrival(losses, floor) {
  const last = losses.findLastIndex((v) => !(Math.abs(v / floor - 1) <= 0.1));
  return last + 1 < losses.length ? last + 1 : -1;
}
