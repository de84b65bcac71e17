// From any picture that a browser can open to the numbers that a network takes.

/** Red, green and blue of a canvas's pixels, from 0 to 1, one color after the other. */
export function toPlanes(rgba, cells = rgba.length / 4) {
  const out = new Float32Array(3 * cells);
  for (let i = 0; i < cells; i++) for (let c = 0; c < 3; c++) out[c * cells + i] = rgba[4 * i + c] / 255;
  return out;
}

/** The way back, for a canvas: opaque pixels. */
export function toPixels(planes, cells = planes.length / 3) {
  const out = new Uint8ClampedArray(4 * cells);
  for (let i = 0; i < cells; i++) {
    for (let c = 0; c < 3; c++) out[4 * i + c] = 255 * planes[c * cells + i];
    out[4 * i + 3] = 255;
  }
  return out;
}

/** A canvas that is on no page: in a worker, and where that can't be had, in the page. */
function canvasOf(side) {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(side, side);
  return Object.assign(document.createElement("canvas"), { width: side, height: side });
}

/**
 * The middle square of a picture, `cut` of its shorter side, with `side` pixels a row. `source`: a Blob (a turned photograph is turned
 * back, as its file says) or an ImageBitmap. What is transparent becomes white.
 */
export async function squareOf(source, side, cut = 1) {
  const whole = source instanceof Blob ? await createImageBitmap(source) : source;
  const edge = Math.max(1, Math.round(cut * Math.min(whole.width, whole.height)));
  const left = (whole.width - edge) >> 1, top = (whole.height - edge) >> 1;
  const small = await createImageBitmap(whole, left, top, edge, edge, { resizeWidth: side, resizeHeight: side, resizeQuality: "high" });
  whole.close();
  const brush = canvasOf(side).getContext("2d", { willReadFrequently: true });
  brush.fillStyle = "#fff";
  brush.fillRect(0, 0, side, side);
  brush.drawImage(small, 0, 0, side, side);
  small.close();
  return toPlanes(brush.getImageData(0, 0, side, side).data);
}
