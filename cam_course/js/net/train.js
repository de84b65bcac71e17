// Training in the page: the small net of nbs/20_lr_finder.ipynb, forward and back to its weights, a batch at a time. A batch lies channel by
// channel, in it picture by picture, so that one product of two matrices does a layer for all pictures. tests/test_page_training.py: as PyTorch.
import { ewma } from "../math/averages.js";
import { DIRECTIONS } from "../math/optimizers.js";
import { uniform } from "../math/random.js";
import { Convolution, multiply, softmax } from "./engine.js";

/** As the engine's `inStrips`, in 64 bits: at large rates a training multiplies what rounding took off, until the curve is another one. */
function strips(rows, depth, at) {
  const out = new Float64Array(4 * Math.ceil(rows / 4) * depth);
  for (let r = 0; r < rows; r++)
    for (let k = 0, i = (r & ~3) * depth + (r & 3); k < depth; k++, i += 4) out[i] = at(r, k);
  return out;
}

/** A convolution with a ReLU behind it that learns. It lays its windows out as columns once, and needs them again on the way back. */
export class TrainedConvolution extends Convolution {
  constructor(about, shape, weight, bias, batch, first) {
    super({ ...about, low: 0, high: Infinity }, shape, weight, bias);
    const wide = batch * this.cells, [out] = this.shape;
    Object.assign(this, { batch, wide, first, numbers: weight, columns: new Float64Array(4 * Math.ceil(wide / 4) * this.depth),
      turnedColumns: new Float64Array(4 * Math.ceil(this.depth / 4) * wide), y: new Float64Array(out * wide), blocked: new Float64Array(out * wide),
      changes: first ? null : new Float64Array(this.depth * wide), dx: first ? null : new Float64Array(batch * shape[0] * shape[1] * shape[2]),
      slopes: [new Float64Array(weight.length), new Float64Array(out)] });
  }

  /** Calls f(row, first column, columns, where in the batch the first lies) for every run of pixels that a window's element meets. */
  inBatch(f) {
    const { batch, cells, kernel, height, width, shape: [, , w] } = this, size = height * width;
    this.runs((row, line, first, last, from) => {
      const before = Math.floor(row / (kernel * kernel)) * (batch - 1) * size;
      for (let b = 0; b < batch; b++) f(row, b * cells + line * w + first, last - first, from + before + b * size);
    });
  }

  forward(x) {
    const { depth, wide, stride, columns, y, bias, numbers, shape: [out] } = this;
    this.weight = strips(out, depth, (r, k) => numbers[r * depth + k]);
    this.inBatch((row, n, count, from) => {
      for (const end = n + count; n < end; n++, from += stride) columns[(n & ~3) * depth + 4 * row + (n & 3)] = x[from];
    });
    multiply(this.weight, columns, y, out, depth, wide);
    for (let k = 0, i = 0; k < out; k++) for (const end = i + wide, b = bias[k]; i < end; i++) y[i] = Math.max(0, y[i] + b);
    return y;
  }

  /** How the loss changes with the weights, the bias, and what came in. */
  backward(dy) {
    const { depth, wide, stride, columns, turnedColumns, blocked, y, numbers, shape: [out], slopes: [dWeight, dBias] } = this;
    for (let k = 0, i = 0; k < out; k++) {
      dBias[k] = 0;
      for (const end = i + wide; i < end; i++) dBias[k] += blocked[i] = y[i] > 0 ? dy[i] : 0;
    }
    for (let n = 0; n < wide; n++)
      for (let row = 0, from = (n & ~3) * depth + (n & 3); row < depth; row++, from += 4)
        turnedColumns[(row & ~3) * wide + 4 * n + (row & 3)] = columns[from];
    multiply(strips(out, wide, (r, n) => blocked[r * wide + n]), turnedColumns, dWeight, out, wide, depth);
    if (this.first) return null;                           // nobody asks how the loss changes with the pictures
    this.turned = strips(depth, out, (r, k) => numbers[k * depth + r]);
    multiply(this.turned, strips(wide, out, (n, k) => blocked[k * wide + n]), this.changes, depth, out, wide);
    this.dx.fill(0);
    this.inBatch((row, n, count, to) => {                  // a pixel gets from every window that it was in
      for (let i = row * wide + n, end = i + count; i < end; i++, to += stride) this.dx[to] += this.changes[i];
    });
    return this.dx;
  }
}

/** The largest number of each map. */
class Largest {
  constructor(maps, cells) { Object.assign(this, { maps, cells, y: new Float64Array(maps), where: new Int32Array(maps), dx: new Float64Array(maps * cells) }); }

  forward(x) {
    for (let m = 0, i = 0; m < this.maps; m++) {
      let best = i;
      for (const end = i + this.cells; i < end; i++) if (x[i] > x[best]) best = i;
      this.where[m] = best;
      this.y[m] = x[best];
    }
    return this.y;
  }

  backward(dy) {
    this.dx.fill(0);
    dy.forEach((v, m) => { this.dx[this.where[m]] = v; });
    return this.dx;
  }
}

/** Scores as weighted sums: x has `features` rows, a column for each picture; so has y, with a row for each class. */
export class TrainedLinear {
  constructor(features, classes, batch, weight, bias) {
    Object.assign(this, { features, classes, batch, weight, bias, slopes: [new Float64Array(weight.length), new Float64Array(classes)],
      y: new Float64Array(classes * batch), dx: new Float64Array(features * batch) });
  }

  forward(x) {
    const { features, classes, batch, weight, bias, y } = this;
    this.x = x;
    for (let k = 0; k < classes; k++)
      for (let b = 0; b < batch; b++) {
        let sum = bias[k];
        for (let c = 0; c < features; c++) sum += weight[k * features + c] * x[c * batch + b];
        y[k * batch + b] = sum;
      }
    return y;
  }

  backward(dy) {
    const { features, classes, batch, weight, x, dx, slopes: [dWeight, dBias] } = this;
    dx.fill(0);
    for (let k = 0; k < classes; k++) {
      dBias[k] = 0;
      for (let b = 0; b < batch; b++) dBias[k] += dy[k * batch + b];
      for (let c = 0; c < features; c++) {
        let sum = 0;
        for (let b = 0; b < batch; b++) {
          sum += dy[k * batch + b] * x[c * batch + b];
          dx[c * batch + b] += dy[k * batch + b] * weight[k * features + c];
        }
        dWeight[k * features + c] = sum;
      }
    }
    return dx;
  }
}

/** Mean cross-entropy of a batch of scores, how it changes with them, and how many pictures got their own class: { loss, slope, right }. */
export function crossEntropy(scores, labels) {
  const batch = labels.length, classes = scores.length / batch, slope = new Float64Array(scores.length);
  let loss = 0, right = 0;
  for (let b = 0; b < batch; b++) {
    const own = Float64Array.from({ length: classes }, (_, k) => scores[k * batch + b]), top = Math.max(...own), shares = softmax(own);
    loss += top + Math.log(own.reduce((sum, v) => sum + Math.exp(v - top), 0)) - own[labels[b]];
    right += own.every((v, k) => k === labels[b] || v < own[labels[b]]);
    shares.forEach((p, k) => { slope[k * batch + b] = (p - (k === labels[b])) / batch; });
  }
  return { loss: loss / batch, slope, right };
}

/** Layers one after the other; the last gives scores. `weights`: all arrays that learn, in order. */
class Chain {
  constructor(layers, weights) { Object.assign(this, { layers, weights }); }

  scores(x) { return this.layers.reduce((y, layer) => layer.forward(y), x); }

  /** Mean loss of a batch; then `slopes` is an array for each of `weights`. */
  loss(x, labels) {
    const { loss, slope } = crossEntropy(this.scores(x), labels);
    this.layers.reduceRight((dy, layer) => layer.backward(dy), slope);
    this.slopes = this.layers.flatMap((layer) => layer.slopes ?? []);
    return loss;
  }
}

export const SMALL = { maps: [16, 32], kernel: 5, stride: 2, pad: 2 };

/** The small net of the chapter: two convolutions, the largest value of each map, a score for each class. */
export function smallNet(weights, batch, classes, side = 32) {
  const [w1, b1, w2, b2, w3, b3] = weights, { maps: [m1, m2], ...about } = SMALL;
  const one = new TrainedConvolution({ ...about, out: m1 }, [3, side, side], w1, b1, batch, true);
  const two = new TrainedConvolution({ ...about, out: m2 }, one.shape, w2, b2, batch, false);
  return new Chain([one, two, new Largest(m2 * batch, two.cells), new TrainedLinear(m2, classes, batch, w3, b3)], weights);
}

/** A head: weighted sums of a network's features, from zeros. */
export function newHead(features, classes, batch) {
  const weights = [new Float64Array(features * classes), new Float64Array(classes)];
  return new Chain([new TrainedLinear(features, classes, batch, ...weights)], weights);
}

/** First weights as PyTorch draws them: even between -1 and 1, divided by the root of how many numbers a sum has. */
export function firstWeights(seed, classes) {
  const draw = uniform(seed), { maps: [m1, m2], kernel } = SMALL;
  return [[3 * kernel ** 2, m1], [m1 * kernel ** 2, m2], [m2, classes]].flatMap(([inputs, out]) => [inputs * out, out].map((count) =>
    Float64Array.from({ length: count }, () => (2 * draw() - 1) / Math.sqrt(inputs))));
}

/** A net and an optimizer of the course: step(x, labels, lr) gives the loss before the step. */
export class Learner {
  constructor(net, optimizer) {
    this.net = net;
    this.ways = net.weights.map((numbers) => Array.from(numbers, () => DIRECTIONS[optimizer]()));   // one for each weight, with its memory
  }

  step(x, labels, lr) {
    const loss = this.net.loss(x, labels), { weights, slopes } = this.net;
    weights.forEach((numbers, j) => numbers.forEach((_, i) => { numbers[i] -= lr * this.ways[j][i](slopes[j][i])[0]; }));
    return loss;
  }
}

/** Takes pictures apart into batches: batch(k) gives { x, labels } of step k. Every epoch has its own order. */
export class Batches {
  /** `planes`: pictures; `order`: positions, as many as will be needed, or a seed; `like`: batches whose mean and deviation are taken. */
  constructor(planes, labels, size, order, { mean, std } = normalized(planes)) {
    Object.assign(this, { planes, labels, size, mean, std });
    if (typeof order === "number") this.draw = uniform(order);
    this.order = typeof order === "number" ? [] : order;
  }

  at(k) {
    while (this.draw && this.order.length < (k + 1) * this.size) this.order.push(...shuffledRange(this.planes.length, this.draw));
    return this.of(this.order.slice(k * this.size, (k + 1) * this.size));
  }

  /** The batch of these pictures. */
  of(which) {
    const { planes, labels, size, mean, std } = this, cells = planes[0].length / 3, x = new Float64Array(3 * size * cells);
    which.forEach((i, b) => {
      for (let c = 0; c < 3; c++)
        for (let n = 0, to = (c * size + b) * cells, from = c * cells; n < cells; n++) x[to + n] = (planes[i][from + n] - mean[c]) / std[c];
    });
    return { x, labels: Array.from(which, (i) => labels[i]) };
  }
}

/** Mean and standard deviation of each color. */
function normalized(planes) {
  const cells = planes[0].length / 3, all = cells * planes.length, mean = [0, 0, 0], std = [0, 0, 0];
  for (let c = 0; c < 3; c++) {
    let sum = 0, squares = 0;
    for (const picture of planes) for (let n = c * cells; n < (c + 1) * cells; n++) { sum += picture[n]; squares += picture[n] ** 2; }
    mean[c] = sum / all;
    std[c] = Math.sqrt(squares / all - mean[c] ** 2);
  }
  return { mean, std };
}

function shuffledRange(count, draw) {
  const order = Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(draw() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}

/** A range test: yields the loss of each step at a growing rate. It ends where the average is over four times its best, as in the chapter. */
export function* rangeTest(learner, batches, rates) {
  const losses = [];
  let best = Infinity;
  for (const [k, lr] of rates.entries()) {
    const { x, labels } = batches.at(k), loss = learner.step(x, labels, lr);
    if (!Number.isFinite(loss)) return;
    losses.push(loss);
    yield loss;
    const smooth = ewma(losses, 0.95, true).at(-1);
    best = Math.min(best, smooth);
    if (smooth > 4 * best) return;
  }
}

/** Share of the pictures that get their own class; their number is a multiple of the batch. */
export function accuracy(net, batches) {
  const { planes, size } = batches;
  let right = 0;
  for (let start = 0; start < planes.length; start += size) {
    const { x, labels } = batches.of(Array.from({ length: size }, (_, b) => start + b));
    right += crossEntropy(net.scores(x), labels).right;
  }
  return right / planes.length;
}
