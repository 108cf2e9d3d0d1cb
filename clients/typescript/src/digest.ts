// Digest of a log prefix (protocol section 4): CRC-32, zlib's, over `type` 0x1F `content` 0x1E of each chunk.

import type { Chunk } from "./frames.js";

/** The digest of nothing. */
export const EMPTY = 0;

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});
const UTF8 = new TextEncoder();

/** CRC-32 of text in UTF-8, going on from `crc`. */
export function crc32(text: string, crc = EMPTY): number {
  let rest = ~crc;
  for (const byte of UTF8.encode(text)) rest = TABLE[(rest ^ byte) & 0xff]! ^ (rest >>> 8);
  return ~rest >>> 0;
}

/** The digest after one more chunk. */
export function digestWith(digest: number, chunk: Chunk): number {
  return crc32(`${chunk.type}\x1f${chunk.content}\x1e`, digest);
}

/** As on the wire: eight lower-case hexadecimal digits. */
export function digestToHex(digest: number): string {
  return digest.toString(16).padStart(8, "0");
}

/** `undefined` for what is no digest. */
export function digestFromHex(hex: string | undefined): number | undefined {
  return hex !== undefined && /^[0-9a-f]{8}$/i.test(hex) ? Number.parseInt(hex, 16) : undefined;
}
