// The arithmetic of the first figure of nbs/07_saddles.ipynb: optimizers on flat ground. tests/test_plateaus.py holds it to 1e-9.
import { ESCAPES } from "./noise.js";
import { followGradient } from "./optimizers.js";

/** Where the first figure starts: `distance` from the well, or `offset` beside the ridge of the saddle. */
export const flatStart = (place, distance, offset) =>
  (place === "well" ? [0.8 * distance, 0.6 * distance] : [-2, offset]);

/** Loss of an optimizer at the start and after every step on flat ground, its path, and the step at which it is off (or null). */
export function leaveFlat(place, optimizer, start, lr, steps) {
  const { f, grad, below } = ESCAPES[place], { path } = followGradient(grad, optimizer, start, lr, steps);
  const losses = path.map(([x, y]) => f(x, y)), off = losses.findIndex((v) => v < below);
  return { path, losses, off: off < 0 ? null : off };
}
