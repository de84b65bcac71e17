// What one may ask a network in the page: where it looked, what a patch hides, how to mislead it, what it says with forgotten layers.
import { Network, softmax } from "./engine.js";
import { uniform } from "../math/random.js";

/** 1 at one class, 0 elsewhere: the score of this class alone. */
export const oneOf = (count, k) => Float32Array.from({ length: count }, (_, i) => (i === k ? 1 : 0));

/**
 * Grad-CAM of the last picture: the channels of a stage, each times the mean of its gradient, added up. Signed: what is
 * negative speaks against the class. `peak`, the highest number, is 0 or less where nothing speaks for it.
 */
export function gradCam(net, stage, target) {
  const { data, shape: [channels, h, w] } = net.value(stage), cells = h * w;
  const slope = net.backward(oneOf(net.graph.classes.length, target), stage), map = new Float32Array(cells);
  for (let c = 0; c < channels; c++) {
    let weight = 0;
    for (let i = c * cells; i < (c + 1) * cells; i++) weight += slope[i] / cells;
    for (let i = 0; i < cells; i++) map[i] += weight * data[c * cells + i];
  }
  return { map, h, w, peak: map.reduce((a, b) => Math.max(a, b), -Infinity) };
}

/** Covers the picture with a grey square, place by place: yields [row, column, score of the class] where the rows and columns are `step` apart. */
export function* occlusion(net, pixels, target, { patch, step, grey = 0.5 }) {
  const [channels, height, width] = net.graph.input;
  for (let top = 0, row = 0; top < height; top += step, row++)
    for (let left = 0, column = 0; left < width; left += step, column++) {
      const covered = pixels.slice(), y0 = top + (step >> 1) - (patch >> 1), x0 = left + (step >> 1) - (patch >> 1);
      for (let c = 0; c < channels; c++)
        for (let y = Math.max(0, y0); y < Math.min(height, y0 + patch); y++)
          covered.fill(grey, (c * height + y) * width + Math.max(0, x0), (c * height + y) * width + Math.min(width, x0 + patch));
      yield [row, column, net.forward(covered)[target]];
    }
}

/**
 * How the loss of class k changes with the scores, up to a positive factor, which the sign forgets: a network that is sure has a
 * cross-entropy whose gradient is rounded to 0, and the margin, log sum of exp of the others - own, has the same direction.
 */
export function lossDirection(scores, k) {
  const others = softmax(Float64Array.from(scores, (v, i) => (i === k ? -Infinity : v)));
  return Float32Array.from(others, (v, i) => (i === k ? -1 : v));
}

/** One step of `alpha` along the sign of the gradient, kept within `eps` of the original and within 0 and 1. Away from class `k`, or towards it. */
export function attackStep(net, original, current, { k, towards = false, alpha, eps }) {
  const slope = net.backward(lossDirection(net.forward(current), k)), sign = towards ? -1 : 1;
  return current.map((v, i) => within(v + sign * alpha * Math.sign(slope[i]), original[i], eps));
}

const within = (v, x, eps) => Math.min(1, x + eps, Math.max(0, x - eps, v));

/** Noise that moves every number by `eps`, up or down at random: as far as an attack goes, in no direction. */
export function equalNoise(original, eps, seed) {
  const draw = uniform(seed);
  return original.map((v) => within(v + (draw() < 0.5 ? -eps : eps), v, eps));
}

/** Names of the layers with weights, last first. */
export const weighted = (graph) => graph.ops.filter((op) => op.weight).map((op) => op.name).reverse();

/** A network of the same layers with every layer's numbers shuffled: as large as before, and nothing that was learned. */
export function shuffled({ graph, load }, seed = 1) {
  const shuffle = (numbers, draw) => {
    for (let i = numbers.length - 1; i > 0; i--) {
      const j = Math.floor(draw() * (i + 1));
      [numbers[i], numbers[j]] = [numbers[j], numbers[i]];
    }
  };
  return new Network(graph, (op) => {
    const found = load(op), draw = uniform(seed + graph.ops.indexOf(op));
    for (const numbers of [found.weight, found.bias]) if (numbers) shuffle(numbers, draw);
    return found;
  });
}

/** `trained` up to its last `count` layers, which are those of `blank`. Nothing is copied: the three share their layers. */
export function forgetful(trained, blank, count) {
  const forgotten = new Set(weighted(trained.graph).slice(0, count)), mixed = Object.create(trained);
  mixed.layers = new Map([...trained.layers].map(([name, layer]) => [name, forgotten.has(name) ? blank.layers.get(name) : layer]));
  return mixed;
}

/** Rank correlation of two maps: 1 where they order the cells alike, 0 where one says nothing about the other. */
export function rankCorrelation(a, b) {
  const [x, y] = [ranks(a), ranks(b)], mean = (a.length - 1) / 2;
  let both = 0, left = 0, right = 0;
  x.forEach((v, i) => {
    both += (v - mean) * (y[i] - mean);
    left += (v - mean) ** 2;
    right += (y[i] - mean) ** 2;
  });
  return both / Math.sqrt(left * right || 1);
}

/** The place of each number in order; equal ones share the mean of theirs. */
function ranks(numbers) {
  const order = Array.from(numbers.keys()).sort((i, j) => numbers[i] - numbers[j]), out = new Float64Array(numbers.length);
  for (let start = 0; start < order.length;) {
    let end = start;
    while (end < order.length && numbers[order[end]] === numbers[order[start]]) end++;
    for (let i = start; i < end; i++) out[order[i]] = (start + end - 1) / 2;
    start = end;
  }
  return out;
}
