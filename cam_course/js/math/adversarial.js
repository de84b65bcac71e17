// Chapter "Adversarial images": what the trace figure computes from bytes. Pictures are rows of RGB bytes.

/** Bytes of a base64 string; `signed` gives -128 to 127. */
export function unpackBytes(text, signed = false) {
  const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", out = [];
  let bits = 0, held = 0;
  for (const letter of text.replace(/=+$/, "")) {
    bits = ((bits << 6) | digits.indexOf(letter)) & 0xffff;
    held += 6;
    if (held >= 8) {
      held -= 8;
      const byte = (bits >> held) & 255;
      out.push(signed && byte > 127 ? byte - 256 : byte);
    }
  }
  return out;
}

const byteOf = (v) => Math.round(Math.max(0, Math.min(255, v)));

/** The image after a change given as int8, 127 at eps (in units of the full scale). */
export function perturbed(image, noise, eps) {
  return image.map((v, i) => byteOf(v + (255 * eps * noise[i]) / 127));
}

/** The change alone, `gain` times, around middle grey. */
export function amplified(noise, eps, gain) {
  return noise.map((v) => byteOf(127.5 + (gain * 255 * eps * v) / 127));
}

/** Enlarges a map [row-major, h x w] to height x width: bilinear, pixel centers aligned. */
export function stretchMap(map, [h, w], [height, width]) {
  const axis = (n, m) => Array.from({ length: m }, (_, i) => {
    const x = Math.max(0, ((i + 0.5) * n) / m - 0.5), low = Math.min(n - 1, Math.floor(x));
    return [low, Math.min(n - 1, low + 1), x - low];
  });
  const rows = axis(h, height), columns = axis(w, width), out = [];
  for (const [r0, r1, v] of rows)
    for (const [c0, c1, u] of columns) {
      const top = map[r0 * w + c0] * (1 - u) + map[r0 * w + c1] * u;
      const under = map[r1 * w + c0] * (1 - u) + map[r1 * w + c1] * u;
      out.push(top * (1 - v) + under * v);
    }
  return out;
}

// The corners of matplotlib's jet: [position, value] for red, green and blue.
const JET = [[[0, 0], [0.35, 0], [0.66, 1], [0.89, 1], [1, 0.5]],
  [[0, 0], [0.125, 0], [0.375, 1], [0.64, 1], [0.91, 0], [1, 0]],
  [[0, 0.5], [0.11, 1], [0.34, 1], [0.65, 0], [1, 0]]];

/** Color of v in [0, 1], as RGB bytes, from a table of 256. */
export function jetColor(v) {
  const x = Math.min(255, Math.floor(v * 256)) / 255;
  return JET.map((corners) => {
    const k = Math.max(1, corners.findIndex(([at]) => at >= x)), [x0, y0] = corners[k - 1], [x1, y1] = corners[k];
    return byteOf(255 * (y0 + ((x - x0) / (x1 - x0)) * (y1 - y0)));
  });
}

/** A map in [0, 1] (as many values as pixels) over a picture. */
export function overlaid(image, map, opacity) {
  return map.flatMap((v, i) => jetColor(v).map((c, k) => byteOf((1 - opacity) * image[3 * i + k] + opacity * c)));
}

/** First step whose most probable class is not `label`; -1: none. */
export function fooledAt(probabilities, label) {
  return probabilities.findIndex((row) => row.indexOf(Math.max(...row)) !== label);
}
