// The arithmetic of nbs/07_saddles.ipynb: noise that can be looked up, and noisy descent.
// tests/test_plateaus.py holds both to 1e-9.

const wrap = (z) => BigInt.asUintN(64, z);

const scramble = (z) => {                                  // splitmix64's finaliser
  z = wrap((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n);
  z = wrap((z ^ (z >> 27n)) * 0x94d049bb133111ebn);
  return z ^ (z >> 31n);
};

/** `size` standard normal numbers that depend on the seed and their position alone. */
export function hashNormal(seed, size) {
  const half = (size + 1) >> 1, key = scramble(wrap(BigInt(seed))), cosines = [], sines = [];
  for (let i = 1; i <= half; i++) {
    const z = scramble(wrap(key + BigInt(i) * 0x9e3779b97f4a7c15n));
    const r = Math.sqrt(-2 * Math.log((Number(z >> 32n) + 0.5) * 2 ** -32));
    const turn = Number(z & 0xffffffffn) * (2 ** -32 * 2 * Math.PI);
    cosines.push(r * Math.cos(turn));
    sines.push(r * Math.sin(turn));
  }
  return [...cosines, ...sines].slice(0, size);
}

/** A saddle, and a well in a wide plain: f, gradient, limits of the picture; `below` this loss a walker has escaped. */
export const ESCAPES = {
  saddle: { limits: [-2.5, 2.5, -1.5, 1.5], start: [-2, 0], below: -0.2,
    f: (x, y) => x ** 2 / 2 + y ** 4 / 4 - y ** 2 / 2, grad: (x, y) => [x, y ** 3 - y] },
  well: { limits: [-6, 6, -4, 4], start: [4.2, 0], below: -0.5,
    f: (x, y) => -Math.exp(-(x ** 2 + y ** 2) / 2),
    grad: (x, y) => { const e = Math.exp(-(x ** 2 + y ** 2) / 2); return [x * e, y * e]; } },
};

/** Standard deviation of the noise at step t, from 0. */
export const noiseStd = (decay, std, t) =>
  decay === "power" ? Math.sqrt(std ** 2 / (1 + t) ** 0.55) : decay === "exponential" ? std * 0.99 ** t : std;

/** Start and iterates of one walker; `noise` holds two normal numbers a step, or is null. */
export function noisyDescent(surfaceName, start, lr, std, decay, steps, noise) {
  const { grad } = ESCAPES[surfaceName], path = [start];
  for (let k = 0, [x, y] = start; k < steps; k++) {
    const g = grad(x, y), s = noiseStd(decay, std, k);
    x -= lr * (g[0] + (noise ? s * noise[2 * k] : 0));
    y -= lr * (g[1] + (noise ? s * noise[2 * k + 1] : 0));
    path.push([x, y]);
  }
  return path;
}
