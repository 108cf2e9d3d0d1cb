// Digest of a log prefix (protocol section 4), written a second time on purpose: the page judges the
// client, so it does not borrow the client's arithmetic.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let k = 0; k < 8; k++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});
const UTF8 = new TextEncoder();

/** The digest after one more chunk; that of nothing is 0. */
export function digestWith(before: number, type: string, content: string): number {
  let c = ~before;
  for (const byte of UTF8.encode(`${type}\x1f${content}\x1e`)) c = (TABLE[(c ^ byte) & 255] ?? 0) ^ (c >>> 8);
  return ~c >>> 0;
}

export function hex(digest: number): string {
  return digest.toString(16).padStart(8, "0");
}
