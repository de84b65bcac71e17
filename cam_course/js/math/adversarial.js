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

/** A map in [0, 1] (as many values as pixels) over a picture; `colors` has 256 rows of RGB bytes. */
export function overlaid(image, map, opacity, colors) {
  return map.flatMap((v, i) => {
    const row = 3 * Math.min(255, Math.floor(v * 256));
    return [0, 1, 2].map((k) => byteOf((1 - opacity) * image[3 * i + k] + opacity * colors[row + k]));
  });
}

/** First step whose most probable class is not `label`; -1: none. */
export function fooledAt(probabilities, label) {
  return probabilities.findIndex((row) => row.indexOf(Math.max(...row)) !== label);
}
