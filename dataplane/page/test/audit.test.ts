// The verdict: what it counts, and that each kind of wrong turns it red.

import assert from "node:assert/strict";
import test from "node:test";
import type { AnswerEvent, FrameRecord } from "@chatcluster/client";
import { Audit } from "../src/audit.js";
import { digestWith, hex } from "../src/crc32.js";

const ID = "0193e1f4-7a52-7c11-9d0e-2f6b1c4a8e55";
const TEXT = ["a ", "b ", "c ", "d "].map((content) => ({ type: "TEXT" as const, content }));
const digest = (to: number) => hex(TEXT.slice(0, to).reduce((before, one) => digestWith(before, one.type, one.content), 0));

function stage() {
  const audit = new Audit();
  const frame = (type: string, data: object, socket = 1) =>
    audit.frame({ direction: "in", socket, node: "node-1", type, bytes: 1, at: 0, frame: { type, data: { messageId: ID, ...data } } } as FrameRecord);
  const chunks = (index: number, to: number, socket = 1) => frame("CHUNKS", { index, epoch: 1, chunks: TEXT.slice(index, to) }, socket);
  const complete = (totalChunks: number, told: string, socket = 1) => frame("COMPLETE", { totalChunks, digest: told }, socket);
  const give = (index: number, content = TEXT[index]?.content ?? "") =>
    audit.given(ID, { type: "chunk", index, epoch: 1, chunk: { type: "TEXT", content } });
  const sealed = (totalChunks: number, told: string) =>
    audit.given(ID, { type: "complete", seal: { messageId: ID, totalChunks, digest: told } } as AnswerEvent);
  const counts = () => {
    const { lost, twice, wrong } = audit.verdict();
    return [lost, twice, wrong];
  };
  return { audit, frame, chunks, complete, give, sealed, counts };
}

test("the digest is the one of the protocol", () => {
  // zlib's CRC-32 of "TEXT\x1fhi\x1e".
  assert.equal(hex(digestWith(0, "TEXT", "hi")), "8fbdabc6");
  assert.equal(hex(0), "00000000");
});

test("a whole answer over two sockets, with the overlap of a move, is all right", () => {
  const { frame, chunks, complete, give, sealed, audit, counts } = stage();
  frame("ACCEPTED", {});
  chunks(0, 3);
  frame("RECOVERY", { from: 2, digest: digest(2) }, 2);
  chunks(2, 4, 2);
  complete(4, digest(4), 2);
  for (const at of [0, 1, 2, 3]) give(at);
  sealed(4, digest(4));
  audit.stored(ID, { content: "a b c d ", digest: digest(4), totalChunks: 4 }, "a b c d ");
  assert.deepEqual(counts(), [0, 0, 0]);
  const { chunks: seen, fitting, stored } = audit.verdict();
  assert.deepEqual([seen, fitting, stored], [4, 1, 1]);
});

test("a gap, a repetition and another text on a socket are found, whatever the client makes of them", () => {
  for (const [play, expected] of [
    [(s: ReturnType<typeof stage>) => (s.chunks(0, 1), s.chunks(3, 4)), [2, 0, 0]],
    [(s: ReturnType<typeof stage>) => (s.chunks(0, 3), s.chunks(1, 2)), [0, 1, 0]],
    [(s: ReturnType<typeof stage>) => (s.chunks(0, 4), s.complete(4, "deadbeef")), [0, 0, 1]],
    [(s: ReturnType<typeof stage>) => (s.chunks(0, 3), s.complete(4, digest(4))), [1, 0, 0]],
    [(s: ReturnType<typeof stage>) => (s.chunks(0, 4), s.complete(3, digest(3))), [0, 0, 1]],
  ] as const) {
    const s = stage();
    s.frame("ACCEPTED", {});
    play(s);
    assert.deepEqual(s.counts(), expected);
    assert.equal(s.audit.verdict().findings.length, 1);
  }
});

test("a recovery begins with the digest that the server names", () => {
  const { frame, chunks, complete, counts } = stage();
  frame("RECOVERY", { from: 2, digest: digest(1) });
  chunks(2, 4);
  complete(4, digest(4));
  assert.deepEqual(counts(), [0, 0, 1]);
});

test("after a cut whose digest nobody told only indexes are compared", () => {
  const { frame, chunks, complete, counts } = stage();
  frame("ACCEPTED", {});
  chunks(0, 4);
  frame("RESET", { truncateTo: 2, reason: "ROLLED_BACK", epoch: 2 });
  chunks(2, 4);
  complete(4, "deadbeef");
  assert.deepEqual(counts(), [0, 0, 0]);
});

test("what the client gives is counted as well", () => {
  for (const [play, expected] of [
    [(s: ReturnType<typeof stage>) => (s.give(0), s.give(2)), [1, 0, 0]],
    [(s: ReturnType<typeof stage>) => (s.give(0), s.give(0)), [0, 1, 0]],
    [(s: ReturnType<typeof stage>) => (s.give(0), s.give(1, "x"), s.sealed(2, digest(2))), [0, 0, 1]],
    [(s: ReturnType<typeof stage>) => (s.give(0), s.sealed(2, digest(2))), [1, 0, 0]],
  ] as const) {
    const s = stage();
    play(s);
    assert.deepEqual(s.counts(), expected);
  }
});

test("a reset takes back what was given, and a kept beginning counts as given", () => {
  const { audit, give, sealed, counts } = stage();
  audit.begin(ID, TEXT.slice(0, 2));
  give(2, "x");
  audit.given(ID, { type: "reset", messageId: ID, reason: "ROLLED_BACK", truncateTo: 1, epoch: 2 });
  give(1);
  give(2);
  give(3);
  sealed(4, digest(4));
  assert.deepEqual(counts(), [0, 0, 0]);
  assert.equal(audit.verdict().fitting, 1);
});

test("another stored text is found", () => {
  const { audit, give, counts } = stage();
  for (const at of [0, 1, 2, 3]) give(at);
  audit.stored(ID, { content: "a b c d ", digest: digest(4), totalChunks: 4 }, "a b c ");
  audit.stored(ID, { content: "a b c d ", digest: digest(3), totalChunks: 3 }, "a b c d ");
  assert.deepEqual(counts(), [0, 0, 2]);
  assert.equal(audit.verdict().stored, 0);
});
