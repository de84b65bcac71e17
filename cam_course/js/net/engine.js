// A network in three hundred lines: forward to ten or a thousand scores, and backward to any stage and to the pixels.
//
// A value is { data, shape }: numbers of a Float32Array, channel by channel, row by row; shape is [channels, height, width].
// A layer is an object with forward(x) -> y and backward(dy) -> dx, where dx says how the score changes with x. Each keeps
// its arrays from one picture to the next, so that nothing has to be thrown away.

/** Rows of one matrix times columns of another: the only place where time is spent. */
export function multiply(a, b, c, rows, depth, columns) {
  // `a` comes in strips of 4 rows, `b` in strips of 4 columns, both one step of `depth` after the other. So the inner loop
  // reads straight on, and sixteen sums stay in the registers of the processor: 8 numbers are read for 16 products.
  for (let j = 0; j < columns; j += 4) {
    const wide = Math.min(4, columns - j);
    for (let i = 0; i < rows; i += 4) {
      let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
      let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
      for (let p = i * depth, q = j * depth, end = p + 4 * depth; p < end; p += 4, q += 4) {
        const b0 = b[q], b1 = b[q + 1], b2 = b[q + 2], b3 = b[q + 3];
        const a0 = a[p], a1 = a[p + 1], a2 = a[p + 2], a3 = a[p + 3];
        s00 += a0 * b0; s01 += a0 * b1; s02 += a0 * b2; s03 += a0 * b3;
        s10 += a1 * b0; s11 += a1 * b1; s12 += a1 * b2; s13 += a1 * b3;
        s20 += a2 * b0; s21 += a2 * b1; s22 += a2 * b2; s23 += a2 * b3;
        s30 += a3 * b0; s31 += a3 * b1; s32 += a3 * b2; s33 += a3 * b3;
      }
      put(c, i * columns + j, wide, s00, s01, s02, s03);
      if (i + 1 < rows) put(c, (i + 1) * columns + j, wide, s10, s11, s12, s13);
      if (i + 2 < rows) put(c, (i + 2) * columns + j, wide, s20, s21, s22, s23);
      if (i + 3 < rows) put(c, (i + 3) * columns + j, wide, s30, s31, s32, s33);
    }
  }
}

function put(c, at, wide, s0, s1, s2, s3) {
  c[at] = s0;
  if (wide > 1) c[at + 1] = s1;
  if (wide > 2) c[at + 2] = s2;
  if (wide > 3) c[at + 3] = s3;
}

const up4 = (n) => 4 * Math.ceil(n / 4);

/** A matrix (rows x depth, element (r, k) is at(r, k)) in strips of 4 rows, as `multiply` reads it; the last is filled with zeros. */
export function inStrips(rows, depth, at) {
  const strips = new Float32Array(up4(rows) * depth);
  for (let r = 0; r < rows; r++)
    for (let k = 0, i = (r & ~3) * depth + (r & 3); k < depth; k++, i += 4) strips[i] = at(r, k);
  return strips;
}

/** Pixels around a map so that the kernel fits: "same" is TensorFlow's, where an odd one goes to the right and the bottom. */
export function padding(pad, size, kernel, stride) {
  if (pad !== "same") return { before: pad, out: Math.floor((size + 2 * pad - kernel) / stride) + 1 };
  const out = Math.ceil(size / stride);
  return { before: Math.max((out - 1) * stride + kernel - size, 0) >> 1, out };
}

/** What all layers with an activation share: y is kept between `low` and `high`, and there the slope is 0. */
function clamp(y, low, high) {
  for (let i = 0; i < y.length; i++) if (y[i] < low) y[i] = low; else if (y[i] > high) y[i] = high;
}

function blockClamped(dy, y, low, high, out) {
  for (let i = 0; i < y.length; i++) out[i] = y[i] > low && y[i] < high ? dy[i] : 0;
  return out;
}

const count = (shape) => shape.reduce((a, b) => a * b, 1);

/** A convolution: every window of the picture becomes a column, and the weights multiply them all at once. */
export class Convolution {
  constructor({ out, kernel, stride, pad, low, high }, shape, weight, bias) {
    const [channels, height, width] = shape;
    const rows = padding(pad, height, kernel, stride), columns = padding(pad, width, kernel, stride);
    Object.assign(this, { channels, height, width, kernel, stride, bias, low, high, top: rows.before, left: columns.before });
    this.shape = [out, rows.out, columns.out];
    this.depth = channels * kernel * kernel;
    this.cells = rows.out * columns.out;
    this.weight = inStrips(out, this.depth, (r, k) => weight[r * this.depth + k]);
    this.turned = inStrips(this.depth, out, (r, k) => weight[k * this.depth + r]);       // for the way back
    this.y = new Float32Array(out * this.cells);
    this.dx = new Float32Array(count(shape));
    this.blocked = new Float32Array(this.y.length);
  }

  /** Calls f(row of the matrix, y, first x, last x + 1, where in the picture the first lies): each run of pixels that a window's element meets. */
  runs(f) {
    const { channels, height, width, kernel, stride, top, left, shape: [, h, w] } = this;
    for (let c = 0, row = 0; c < channels; c++)
      for (let ky = 0; ky < kernel; ky++)
        for (let kx = 0; kx < kernel; kx++, row++) {
          const first = Math.max(0, Math.ceil((left - kx) / stride));
          const last = Math.min(w, Math.floor((width - 1 - kx + left) / stride) + 1);
          for (let y = 0; y < h; y++) {
            const at = y * stride + ky - top;
            if (at >= 0 && at < height) f(row, y, first, last, (c * height + at) * width + first * stride + kx - left);
          }
        }
  }

  forward(x) {
    const { depth, cells, stride, shape: [out, , w], y, bias } = this, columns = scratch("columns", up4(cells) * depth);
    if (this.kernel > 1) columns.fill(0);                  // what lies outside the picture
    this.runs((row, line, first, last, from) => {
      for (let n = line * w + first, end = line * w + last; n < end; n++, from += stride)
        columns[(n & ~3) * depth + 4 * row + (n & 3)] = x[from];
    });
    multiply(this.weight, columns, y, out, depth, cells);
    for (let k = 0, i = 0; k < out; k++) for (const end = i + cells, b = bias[k]; i < end; i++) y[i] += b;
    clamp(y, this.low, this.high);
    return y;
  }

  backward(dy) {
    const { depth, cells, stride, shape: [out, , w], dx } = this;
    blockClamped(dy, this.y, this.low, this.high, this.blocked);
    const given = inColumns(this.blocked, out, cells), columns = scratch("changes", depth * cells);
    multiply(this.turned, given, columns, depth, out, cells);
    dx.fill(0);
    this.runs((row, line, first, last, to) => {            // a pixel gets from every window that it was in
      for (let n = row * cells + line * w + first, end = row * cells + line * w + last; n < end; n++, to += stride) dx[to] += columns[n];
    });
    return dx;
  }
}

/** A matrix (depth x columns) in strips of 4 columns. */
function inColumns(x, depth, columns) {
  const strips = scratch("columns", up4(columns) * depth);
  for (let k = 0, i = 0; k < depth; k++)
    for (let n = 0; n < columns; n++, i++) strips[(n & ~3) * depth + 4 * k + (n & 3)] = x[i];
  return strips;
}

const scraps = new Map();
/** Room for numbers that are needed for one layer only; all layers share it. */
function scratch(name, length) {
  if (!(scraps.get(name)?.length >= length)) scraps.set(name, new Float32Array(length));
  return scraps.get(name).subarray(0, length);
}

/** A convolution in which each channel sees only itself. */
export class Depthwise {
  constructor({ kernel, stride, pad, low, high }, shape, weight, bias) {
    const [channels, height, width] = shape;
    const rows = padding(pad, height, kernel, stride), columns = padding(pad, width, kernel, stride);
    Object.assign(this, { channels, height, width, kernel, stride, weight, bias, low, high, top: rows.before, left: columns.before });
    this.shape = [channels, rows.out, columns.out];
    // A frame of zeros around one channel: no window has to ask where the picture ends.
    this.across = Math.max(width + this.left, (columns.out - 1) * stride + kernel);
    this.frame = new Float32Array(this.across * Math.max(height + this.top, (rows.out - 1) * stride + kernel));
    this.y = new Float32Array(count(this.shape));
    this.dx = new Float32Array(count(shape));
    this.blocked = new Float32Array(this.y.length);
  }

  forward(x) {
    const { channels, height, width, kernel, stride, weight, bias, top, left, across, frame, y, shape: [, h, w] } = this;
    for (let c = 0, out = 0; c < channels; c++) {
      for (let line = 0, from = c * height * width; line < height; line++, from += width)
        frame.set(x.subarray(from, from + width), (line + top) * across + left);
      y.fill(bias[c], out, out + h * w);
      for (let ky = 0, k = c * kernel * kernel; ky < kernel; ky++)
        for (let kx = 0; kx < kernel; kx++, k++) {
          const v = weight[k];
          for (let line = 0, n = out; line < h; line++)
            for (let at = (line * stride + ky) * across + kx, end = n + w; n < end; n++, at += stride) y[n] += v * frame[at];
        }
      out += h * w;
    }
    clamp(y, this.low, this.high);
    return y;
  }

  backward(dy) {
    const { channels, height, width, kernel, stride, weight, top, left, across, frame, dx, shape: [, h, w] } = this;
    blockClamped(dy, this.y, this.low, this.high, this.blocked);
    for (let c = 0, out = 0; c < channels; c++) {
      frame.fill(0);
      for (let ky = 0, k = c * kernel * kernel; ky < kernel; ky++)
        for (let kx = 0; kx < kernel; kx++, k++) {
          const v = weight[k];
          for (let line = 0, n = out; line < h; line++)
            for (let at = (line * stride + ky) * across + kx, end = n + w; n < end; n++, at += stride) frame[at] += v * this.blocked[n];
        }
      out += h * w;
      for (let line = 0, to = c * height * width; line < height; line++, to += width)
        dx.set(frame.subarray((line + top) * across + left, (line + top) * across + left + width), to);
    }
    frame.fill(0);                                         // the next picture's margin
    return dx;
  }
}

/** The shortcut of a residual block: two values are added, and both get the change that comes back. */
export class Addition {
  constructor({ low, high }, shape) {
    Object.assign(this, { shape, low, high, y: new Float32Array(count(shape)), dx: new Float32Array(count(shape)) });
  }

  forward(a, b) {
    for (let i = 0; i < a.length; i++) this.y[i] = a[i] + b[i];
    clamp(this.y, this.low, this.high);
    return this.y;
  }

  backward(dy) { return blockClamped(dy, this.y, this.low, this.high, this.dx); }
}

/** Each channel's mean, or its largest number. */
export class Pooling {
  constructor({ kind }, shape) {
    Object.assign(this, { kind, cells: shape[1] * shape[2], shape: [shape[0], 1, 1] });
    this.y = new Float32Array(shape[0]);
    this.where = new Int32Array(shape[0]);
    this.dx = new Float32Array(count(shape));
  }

  forward(x) {
    for (let c = 0, i = 0; c < this.y.length; c++) {
      let sum = 0, best = i;
      for (const end = i + this.cells; i < end; i++) {
        sum += x[i];
        if (x[i] > x[best]) best = i;
      }
      this.where[c] = best;
      this.y[c] = this.kind === "max" ? x[best] : sum / this.cells;
    }
    return this.y;
  }

  backward(dy) {
    const { cells, dx } = this;
    dx.fill(0);
    for (let c = 0; c < dy.length; c++)
      if (this.kind === "max") dx[this.where[c]] = dy[c];
      else dx.fill(dy[c] / cells, c * cells, (c + 1) * cells);
    return dx;
  }
}

/** The last layer: each score is a weighted sum. */
export class Linear {
  constructor({ out }, shape, weight, bias) {
    Object.assign(this, { weight, bias, shape: [out, 1, 1], y: new Float32Array(out), dx: new Float32Array(count(shape)) });
  }

  forward(x) {
    this.y.forEach((_, k) => {
      let sum = this.bias[k];
      for (let c = 0, i = k * x.length; c < x.length; c++, i++) sum += this.weight[i] * x[c];
      this.y[k] = sum;
    });
    return this.y;
  }

  backward(dy) {
    const { dx, weight } = this;
    dx.fill(0);
    dy.forEach((v, k) => { if (v) for (let c = 0, i = k * dx.length; c < dx.length; c++, i++) dx[c] += v * weight[i]; });
    return dx;
  }
}

/** (x - mean) / std, channel by channel: pixels from 0 to 1 as the network wants them. */
export class Normalization {
  constructor({ mean, std }, shape) {
    Object.assign(this, { mean, std, shape, cells: shape[1] * shape[2], y: new Float32Array(count(shape)), dx: new Float32Array(count(shape)) });
  }

  forward(x) {
    for (let i = 0; i < x.length; i++) { const c = Math.floor(i / this.cells); this.y[i] = (x[i] - this.mean[c]) / this.std[c]; }
    return this.y;
  }

  backward(dy) {
    for (let i = 0; i < dy.length; i++) this.dx[i] = dy[i] / this.std[Math.floor(i / this.cells)];
    return this.dx;
  }
}

const KINDS = { normalize: Normalization, conv: Convolution, depthwise: Depthwise, add: Addition, pool: Pooling, linear: Linear };

/**
 * A network from its description and its numbers. `graph.ops` is the list of layers in the order in which they run; each has
 * a name, and names what it takes. `graph.stages` names those whose maps one may look at. `load(op)` gives { weight, bias }.
 */
export class Network {
  constructor(graph, load) {
    this.graph = graph;
    this.layers = new Map();
    const shapes = new Map([["pixels", graph.input]]);
    for (const op of graph.ops) {
      const { weight, bias } = load(op);
      // Limits as the arrays hold them, in 32 bits: a number that was cut off is then equal to its limit.
      const limits = { low: Math.fround(op.low ?? -Infinity), high: Math.fround(op.high ?? Infinity) };
      const layer = new KINDS[op.op]({ ...op, ...limits }, shapes.get(op.inputs[0]), weight, bias);
      layer.inputs = op.inputs;
      this.layers.set(op.name, layer);
      shapes.set(op.name, layer.shape);
    }
  }

  /** Scores of a picture: pixels from 0 to 1, red, green and blue one after the other. What each layer gave is kept. */
  forward(pixels) {
    const values = new Map([["pixels", pixels]]);
    let y;
    for (const [name, layer] of this.layers) {
      y = layer.forward(...layer.inputs.map((input) => values.get(input)));
      values.set(name, y);
    }
    return y;
  }

  /** What `stage` gave for the last picture. */
  value(stage) { return { data: this.layers.get(stage).y, shape: this.layers.get(stage).shape }; }

  /**
   * How sum(dScores * scores) changes with what `stage` gave for the last picture ("pixels": with the picture). Backward, each
   * layer asks for the change of what it gave and says that of what it took; a value taken twice adds up both.
   */
  backward(dScores, stage = "pixels") {
    const names = [...this.layers.keys()], changes = new Map([[names.at(-1), dScores]]);
    for (const name of names.reverse()) {
      if (name === stage) break;
      const layer = this.layers.get(name), dy = changes.get(name), dx = layer.backward(dy);
      for (const input of layer.inputs) {
        const known = changes.get(input);
        changes.set(input, known ? known.map((v, i) => v + dx[i]) : dx);
      }
    }
    return changes.get(stage);
  }
}

/** Shares that sum to 1, from scores. */
export function softmax(scores) {
  const top = scores.reduce((a, b) => Math.max(a, b)), powers = Float64Array.from(scores, (v) => Math.exp(v - top));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((v) => v / sum);
}
