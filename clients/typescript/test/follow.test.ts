import assert from "node:assert/strict";
import { test } from "node:test";
import { EMPTY, digestToHex, digestWith } from "../src/digest.js";
import { Follow } from "../src/follow.js";
import type { Chunk, Chunks, Cursor, Seal } from "../src/frames.js";

const ID = "018f4d5e-0000-7000-8000-000000000001";
const A: Chunk = { type: "TEXT", content: "a" };
const follow = (from?: Cursor): Follow => new Follow(ID, () => 0.5, from);
const run = (index: number, n: number, epoch = 1): Chunks => ({
  messageId: ID,
  index,
  epoch,
  chunks: Array<Chunk>(n).fill(A),
});
const digest = (n: number): string => digestToHex(Array<Chunk>(n).fill(A).reduce(digestWith, EMPTY));
const seal = (totalChunks: number, of: string): Seal => ({ totalChunks, digest: of }) as Seal;
const indexes = (taken: ReturnType<Follow["take"]>): number[] | string =>
  taken === "gap" ? taken : taken.map(({ index }) => index);

test("only what is new is taken, and the rest is counted", () => {
  const f = follow();
  assert.deepEqual(indexes(f.take(run(0, 3))), [0, 1, 2]);
  assert.deepEqual(indexes(f.take(run(1, 2))), []);
  assert.deepEqual(indexes(f.take(run(2, 3, 2))), [3, 4]);
  assert.equal(f.take(run(6, 1)), "gap");
  assert.equal(f.next, 5);
  assert.deepEqual([f.counters.duplicates, f.counters.gaps], [3, 1]);
});

test("the cursor names epoch and digest of the last chunk", () => {
  const f = follow();
  assert.deepEqual(f.cursor, { lastChunkIndex: -1 });
  f.take(run(0, 2, 3));
  assert.deepEqual(f.cursor, { lastChunkIndex: 1, epoch: 3, digest: digest(2) });
  f.truncate(1);
  assert.deepEqual(f.cursor, { lastChunkIndex: 0, epoch: 3, digest: digest(1) });
  f.truncate(0);
  assert.deepEqual(f.cursor, { lastChunkIndex: -1 });
});

test("each fresh chunk says where its reader stands", () => {
  const taken = follow().take(run(0, 2));
  assert.deepEqual(taken !== "gap" && taken.map(({ cursor }) => cursor.digest), [digest(1), digest(2)]);
});

test("a follow goes on from a cursor with a digest", () => {
  const f = follow({ lastChunkIndex: 1, epoch: 4, digest: digest(2) });
  assert.deepEqual(f.cursor, { lastChunkIndex: 1, epoch: 4, digest: digest(2) });
  f.take(run(2, 1));
  assert.equal(f.fits(seal(3, digest(3))), true);
});

test("a follow from the middle has a digest once it was told", () => {
  const unknown = follow({ lastChunkIndex: 3 });
  unknown.take(run(4, 1));
  assert.equal(unknown.cursor.digest, undefined);
  assert.equal(unknown.fits(seal(5, digest(5))), undefined);
  assert.equal(unknown.fits(seal(4, digest(4))), false, "the length is known all the same");
  const told = follow({ lastChunkIndex: 3 });
  assert.ok(told.agrees(4, digest(4)));
  told.take(run(4, 1));
  assert.equal(told.fits(seal(5, digest(5))), true);
  told.truncate(0);
  assert.deepEqual(told.cursor, { lastChunkIndex: -1 });
});

test("a RECOVERY of another text is noticed", () => {
  const f = follow();
  f.take(run(0, 2));
  assert.ok(f.agrees(2, digest(2)));
  assert.ok(!f.agrees(2, digest(3)));
  assert.ok(f.agrees(0, "00000000"), "a RESET will say what that means");
});

test("a seal of another text or length does not fit", () => {
  const f = follow();
  f.take(run(0, 2));
  assert.equal(f.fits(seal(2, digest(2))), true);
  assert.equal(f.fits(seal(2, digest(1))), false);
  assert.equal(f.fits(seal(1, digest(1))), false);
});
