// Files as they come: a page hands over text, binary ones in base64; a kernel hands over bytes.

export const asText = (file) => (typeof file === "string" ? file : new TextDecoder().decode(file));

export function asBytes(file) {
  if (typeof file !== "string") return new Uint8Array(file.buffer, file.byteOffset, file.byteLength);
  const text = atob(file), out = new Uint8Array(text.length);
  for (let i = 0; i < out.length; i++) out[i] = text.charCodeAt(i);
  return out;
}
