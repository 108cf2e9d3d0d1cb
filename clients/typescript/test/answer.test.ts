import assert from "node:assert/strict";
import { test } from "node:test";
import type { AnswerEvent } from "../src/answer.js";
import { Emitter } from "../src/emitter.js";
import { ChatError } from "../src/errors.js";
import { Follow } from "../src/follow.js";
import type { Chunk, Seal } from "../src/frames.js";
import { LiveAnswer } from "../src/live-answer.js";
import { AnswerQueue } from "../src/queue.js";
import { ID, OTHER, chunk, digestOf } from "./machine.js";

const OWNER = { cancel: () => undefined, unfollow: () => undefined };
const ACCEPTED = { messageId: ID, conversationId: OTHER, userMessageId: OTHER, duplicate: false };

/** An accepted answer, and what feeds it. */
function accepted(): {
  answer: LiveAnswer;
  tell: (event: AnswerEvent) => void;
  give: (...chunks: Chunk[]) => void;
  seal: () => void;
} {
  const answer = new LiveAnswer(OWNER, "r-1");
  const follow = new Follow(ID, Math.random);
  answer.accept(ACCEPTED, follow, undefined);
  const tell = (event: AnswerEvent): void => {
    if (event.type === "reset") follow.truncate(event.truncateTo);
    answer.apply(event, follow.cursor);
  };
  const give = (...chunks: Chunk[]): void => {
    const fresh = follow.take({ messageId: ID, index: follow.next, epoch: 1, chunks });
    if (fresh !== "gap")
      for (const { cursor, ...one } of fresh) answer.apply({ type: "chunk", ...one }, cursor);
  };
  const seal = (): void => {
    const seal = {
      messageId: ID,
      conversationId: OTHER,
      status: "completed",
      totalChunks: follow.next,
      digest: follow.digest,
    } as Seal;
    tell({ type: "complete", seal });
  };
  return { answer, tell, give, seal };
}

async function collect(answer: LiveAnswer): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of answer) seen.push(event.type === "chunk" ? event.chunk.content : event.type);
  return seen;
}

const reset = (truncateTo: number): AnswerEvent => ({
  type: "reset",
  messageId: ID,
  reason: "RESTARTED",
  truncateTo,
  epoch: 2,
});
const status = (state: "waiting" | "paused"): AnswerEvent => ({ type: "status", messageId: ID, state });

test("content is the TEXT and CODE chunks, and a reset takes back", () => {
  const { answer, tell, give } = accepted();
  give(chunk("a"), chunk("hm", "THINKING"), chunk("b", "CODE"), chunk("c"));
  assert.equal(answer.content, "abc");
  tell(reset(2));
  assert.deepEqual([answer.content, answer.chunks.length], ["a", 2]);
  give(chunk("d"));
  assert.deepEqual(
    [answer.content, answer.stats.digest],
    ["ad", digestOf([chunk("a"), chunk("hm", "THINKING"), chunk("d")])],
  );
});

test("states follow what is told", async () => {
  const answer = new LiveAnswer(OWNER, "r-1");
  const states = [answer.state];
  const { answer: live, tell, give, seal } = accepted();
  const note = (): number => states.push(live.state);
  note();
  give(chunk("a"));
  note();
  tell(status("paused"));
  note();
  give(chunk("b"));
  note();
  tell({ type: "status", messageId: ID, state: "cancelling" });
  give(chunk("c"));
  note();
  seal();
  note();
  assert.deepEqual(states, ["pending", "waiting", "live", "paused", "live", "cancelling", "completed"]);
  assert.equal((await live.done).totalChunks, 3);
  assert.equal(live.stats.digestOk, true);
});

test("an iterator begins with what is there, whenever it begins", async () => {
  const { answer, give, seal } = accepted();
  const early = collect(answer);
  give(chunk("a"), chunk("b"));
  const middle = collect(answer);
  give(chunk("c"));
  seal();
  const wanted = ["accepted", "a", "b", "c", "complete"];
  assert.deepEqual([await early, await middle, await collect(answer)], [wanted, wanted, wanted]);
});

test("a slow reader is not told what a reset made void, and not every status", async () => {
  const { answer, tell, give, seal } = accepted();
  const iterator = answer[Symbol.asyncIterator]();
  await iterator.next();
  for (let k = 0; k < 100; k++) {
    tell(reset(0));
    give(chunk("a"), chunk("b"));
    tell(status(k % 2 ? "paused" : "waiting"));
  }
  seal();
  const seen: string[] = [];
  for (let at = await iterator.next(); at.done !== true; at = await iterator.next()) seen.push(at.value.type);
  assert.ok(seen.length < 40, `${seen.length} events`);
  assert.deepEqual(
    seen.filter((type) => type !== "status"),
    ["reset", "chunk", "chunk", "complete"],
  );
});

test("a long answer that was not read is read in order, and quickly", async () => {
  const { answer, give, seal } = accepted();
  const iterator = answer[Symbol.asyncIterator]();
  const chunks = Array.from({ length: 50_000 }, (_, k) => chunk(`${k}`));
  give(...chunks);
  const began = performance.now();
  const read: string[] = [];
  for (let k = 0; k <= 30_000; k++) {
    const { value } = await iterator.next();
    if (value?.type === "chunk") read.push(value.chunk.content);
  }
  give(chunk("last"));
  seal();
  for (let at = await iterator.next(); at.done !== true; at = await iterator.next())
    if (at.value.type === "chunk") read.push(at.value.chunk.content);
  assert.deepEqual(read, [...chunks.map(({ content }) => content), "last"]);
  assert.ok(performance.now() - began < 5_000);
});

test("leaving a loop ends its iterator only", async () => {
  const { answer, give, seal } = accepted();
  give(chunk("a"), chunk("b"));
  for await (const event of answer) if (event.type === "chunk") break;
  const all = collect(answer);
  seal();
  assert.deepEqual(await all, ["accepted", "a", "b", "complete"]);
});

test("readers that wait are woken by the end", async () => {
  const queue = new AnswerQueue([], () => undefined);
  const waiting = [queue.next(), queue.next()];
  queue.end();
  assert.deepEqual(await Promise.all(waiting), [
    { done: true, value: undefined },
    { done: true, value: undefined },
  ]);
});

test("an answer that fails rejects its promises, tells its readers, and is silent afterwards", async () => {
  const { answer, give } = accepted();
  const seen = collect(answer);
  give(chunk("a"));
  answer.fail(new ChatError("CLOSED", "closed"));
  give(chunk("b"));
  assert.deepEqual(await seen, ["accepted", "a", "error"]);
  assert.deepEqual([answer.state, answer.content], ["error", "a"]);
  await assert.rejects(answer.done, (error: ChatError) => error.code === "CLOSED");
});

test("a second answer of one message is as far as the first", async () => {
  const { answer: first, give } = accepted();
  give(chunk("a"), chunk("b"));
  const second = new LiveAnswer(OWNER, "r-2");
  const seen: string[] = [];
  second.on("chunk", ({ chunk: { content } }) => seen.push(content));
  second.accept({ ...ACCEPTED, duplicate: true }, first.follow!, first);
  assert.deepEqual([seen, second.content, second.stats.digest], [["a", "b"], "ab", first.stats.digest]);
});

test("a snapshot survives JSON and has what a follow needs", () => {
  const { answer, give } = accepted();
  assert.deepEqual(answer.snapshot(), { lastChunkIndex: -1, chunks: [] });
  give(chunk("a"), chunk("b"));
  const kept = JSON.parse(JSON.stringify(answer.snapshot()));
  assert.deepEqual(kept, {
    lastChunkIndex: 1,
    epoch: 1,
    digest: digestOf([chunk("a"), chunk("b")]),
    chunks: [chunk("a"), chunk("b")],
  });
  const again = new LiveAnswer(OWNER, undefined);
  again.begin(ID, new Follow(ID, Math.random, kept), kept);
  assert.deepEqual([again.content, again.base], ["ab", 0]);
  const { chunks: _, ...cursor } = kept;
  const later = new LiveAnswer(OWNER, undefined);
  later.begin(ID, new Follow(ID, Math.random, cursor), cursor);
  assert.deepEqual([later.content, later.base, later.snapshot()], ["", 2, cursor]);
});

test("a reset before a bare cursor's beginning gives the whole answer", () => {
  const cursor = { lastChunkIndex: 1, epoch: 1 };
  const follow = new Follow(ID, Math.random, cursor);
  const answer = new LiveAnswer(OWNER, undefined);
  answer.begin(ID, follow, cursor);
  follow.truncate(0);
  answer.apply(reset(0), follow.cursor);
  const fresh = follow.take({
    messageId: ID,
    index: 0,
    epoch: 2,
    chunks: [chunk("a"), chunk("b"), chunk("c")],
  });
  if (fresh !== "gap")
    for (const { cursor, ...one } of fresh) answer.apply({ type: "chunk", ...one }, cursor);
  assert.deepEqual(
    [answer.base, answer.content, answer.stats.digest],
    [0, "abc", digestOf([chunk("a"), chunk("b"), chunk("c")])],
  );
});

test("a listener that throws is reported and disturbs nobody", (t) => {
  const reported: (() => void)[] = [];
  t.mock.method(globalThis, "queueMicrotask", (task: () => void) => void reported.push(task));
  const emitter = new Emitter<{ x: number }>();
  const heard: number[] = [];
  emitter.on("x", () => {
    throw new Error("broken listener");
  });
  const off = emitter.on("x", (value) => heard.push(value));
  emitter.emit("x", 1);
  off();
  off();
  emitter.emit("x", 2);
  assert.deepEqual(heard, [1]);
  assert.equal(reported.length, 2);
  assert.throws(reported[0]!, /broken listener/);
});
