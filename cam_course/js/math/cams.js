// Heat maps as explorer.py and pictures.py compute them: tested to be equal, before rounding, to 1e-9.

/** Where n cells lie under N pixels: [cell, next cell, share of the next], centers aligned as in OpenCV. */
export function cellsUnder(n, N) {
  return Array.from({ length: N }, (_, i) => {
    const at = Math.max(0, ((i + 0.5) * n) / N - 0.5), low = Math.min(n - 1, Math.floor(at));
    return [low, Math.min(n - 1, low + 1), at - low];
  });
}

/** Enlarges `map` (h x w numbers, row by row) to H x W by bilinear interpolation; float32 as in Python. */
export function enlargeMap(map, h, w, H, W) {
  const out = new Float32Array(H * W), rows = cellsUnder(h, H), columns = cellsUnder(w, W);
  rows.forEach(([r0, r1, fr], i) => columns.forEach(([c0, c1, fc], j) => {
    const top = map[r0 * w + c0] * (1 - fc) + map[r0 * w + c1] * fc;
    const low = map[r1 * w + c0] * (1 - fc) + map[r1 * w + c1] * fc;
    out[i * W + j] = top * (1 - fr) + low * fr;
  }));
  return Array.from(out);
}

/** The entry of a table of 256 colors for v in [0, 1]. */
export const colorIndex = (v) => Math.min(255, Math.floor(v * 256));

/** (1 - opacity) image + opacity heat, unrounded; the image has h x w pixels, each drawn as scale x scale. */
export function blend(image, w, scale, heat, colors, opacity) {
  const W = w * scale, out = new Float64Array(3 * heat.length);
  for (let p = 0; p < heat.length; p++) {
    const at = 3 * (Math.floor(Math.floor(p / W) / scale) * w + Math.floor((p % W) / scale));
    const color = 3 * colorIndex(heat[p]);
    for (let c = 0; c < 3; c++) out[3 * p + c] = (1 - opacity) * image[at + c] + opacity * colors[color + c];
  }
  return Array.from(out);
}

/** What scales a map whose own maximum is 1: its share of the highest peak of the layer, or 1; 0 without evidence. */
export function sharedFactor(peaks, k, shared) {
  if (peaks[k] <= 0) return 0;
  return shared ? peaks[k] / Math.max(...peaks) : 1;
}
