import assert from "node:assert/strict";
import { test } from "node:test";
import * as zlib from "node:zlib";
import { EMPTY, crc32, digestFromHex, digestToHex, digestWith } from "../src/digest.js";
import type { Chunk } from "../src/frames.js";

const text = (content: string): Chunk => ({ type: "TEXT", content });

test("the digest of nothing and of one chunk are the protocol's", () => {
  assert.equal(digestToHex(EMPTY), "00000000");
  assert.equal(digestToHex(digestWith(EMPTY, text("Hello"))), "c88d6113");
});

test("it is zlib's CRC-32", () => {
  assert.equal(crc32("123456789"), 0xcbf43926);
  for (const sample of ["", "a", "ä€😀", "\x1f\x1e\0", "x".repeat(5_000), "\ud800 alone"]) {
    assert.equal(crc32(sample), zlib.crc32(Buffer.from(sample)), JSON.stringify(sample));
  }
});

test("it goes on from a prefix, and covers type and borders", () => {
  const [one, two] = [text("one"), { type: "CODE", content: "two" } as const];
  const whole = crc32("TEXT\x1fone\x1eCODE\x1ftwo\x1e");
  assert.equal(digestWith(digestWith(EMPTY, one), two), whole);
  assert.notEqual(digestWith(EMPTY, text("two")), digestWith(EMPTY, two));
  assert.notEqual(digestWith(digestWith(EMPTY, text("a")), text("b")), digestWith(EMPTY, text("ab")));
});

test("hexadecimal digits are read back, and nothing else is", () => {
  assert.equal(digestFromHex("c88d6113"), 0xc88d6113);
  assert.equal(digestFromHex(digestToHex(0x00000abc)), 0xabc);
  for (const bad of [undefined, "", "c88d611", "c88d61130", "c88d611g", " c88d611"])
    assert.equal(digestFromHex(bad), undefined);
});
