// A network's file: four bytes that say how long its description is, the description (JSON), then the numbers.

/** A number of 16 bits: one for the sign, five for the power of two, ten for the digits. */
export function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1, power = (bits >> 10) & 31, digits = bits & 1023;
  if (power === 0) return sign * digits * 2 ** -24;
  if (power === 31) return digits ? NaN : sign * Infinity;
  return sign * (1 + digits / 1024) * 2 ** (power - 15);
}

/** { graph, load }: the description, and a function that gives a layer's numbers as Float32Arrays. */
export function readNet(bytes) {
  const head = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true), start = 4 + head;
  const graph = JSON.parse(Array.from(bytes.subarray(4, start), (b) => String.fromCharCode(b)).join(""));

  function numbers({ type, at, length }) {
    const raw = bytes.slice(start + at, start + at + length * { f32: 4, f16: 2, u8: 1 }[type]);     // a copy begins where numbers may
    if (type === "f32") return new Float32Array(raw.buffer);
    if (type === "u8") return raw;
    const bits = new Uint16Array(raw.buffer), out = new Float32Array(length);
    for (let i = 0; i < length; i++) out[i] = half(bits[i]);
    return out;
  }

  /** Stored as (weight / scale) + zero. A batch norm after training is one scale a channel: here it goes into the weights. */
  function load({ weight, bias }) {
    if (!weight) return {};
    const stored = numbers(weight), out = new Float32Array(stored.length);
    const scales = weight.scales ? numbers(weight.scales) : [weight.scale ?? 1], zero = weight.zero ?? 0, each = stored.length / scales.length;
    for (let k = 0, i = 0; k < scales.length; k++) {
      const scale = Math.fround(scales[k]);
      for (const end = (k + 1) * each; i < end; i++) out[i] = (stored[i] - zero) * scale;
    }
    return { weight: out, bias: numbers(bias) };
  }
  return { graph, load };
}
