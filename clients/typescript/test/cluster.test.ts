// The client against real nodes that are killed, drained and paused while they answer.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { type TestContext, after, before, test } from "node:test";
import { WebSocket } from "ws";
import { type Answer, type ChatClient, type ClientOptions, type ConnectionState } from "../src/index.js";
import { Playground, received } from "./playground.js";

const LIMIT = { timeout: 45_000 };
const SECRET = "a key of these tests alone, 32 bytes or more";
let cluster: Playground;
before(async () => (cluster = await Playground.start({ CHAT_DEV_SECRET: SECRET })), LIMIT);
after(() => cluster?.stop());

async function connect(
  t: TestContext,
  options: Partial<ClientOptions> = {},
): Promise<{ client: ChatClient; states: ConnectionState[] }> {
  await cluster.heal();
  const client = await cluster.client(options);
  t.after(() => client.close());
  const states: ConnectionState[] = [];
  client.on("state", (state) => states.push(state));
  return { client, states };
}

const events = (answer: Answer): string[] => {
  const seen: string[] = [];
  for (const type of ["recovery", "takeover", "reset"] as const) answer.on(type, () => seen.push(type));
  return seen;
};

test("an answer of a node that is left in peace", LIMIT, async (t) => {
  const { client } = await connect(t);
  const answer = client.send("[sim tokens=300 rate=0 types=text,thinking,code] hi");
  let chunks = 0;
  for await (const event of answer) if (event.type === "chunk") chunks += 1;
  assert.equal(chunks, 300);
  await cluster.assertWhole(answer, 300);
  assert.ok(answer.chunks.some(({ type }) => type === "THINKING"));
  assert.deepEqual(answer.stats.duplicates, 0);
});

test("the node that answers is killed midway: the text goes on elsewhere", LIMIT, async (t) => {
  const { client, states } = await connect(t, { first: 0 });
  const answer = client.send("[sim tokens=120 rate=60 seed=3] hi");
  const seen = events(answer);
  await received(answer, 30);
  await cluster.command(await cluster.owner(answer), "kill");
  await cluster.assertWhole(answer, 120);
  assert.ok(states.some(({ kind }) => kind === "reconnecting"));
  assert.ok(seen.includes("recovery"));
  const calls = await cluster.calls(answer.messageId!);
  assert.equal(new Set(calls.map(({ requestId }) => requestId)).size, 1, "one request, whoever went on");
});

test(
  "the node that answers is drained midway: the socket moves first, nobody is ever disconnected",
  LIMIT,
  async (t) => {
    const { client, states } = await connect(t, { first: 1 });
    const answer = client.send("[sim tokens=200 rate=40 seed=4] hi");
    await received(answer, 30);
    await cluster.command(await cluster.owner(answer), "drain", { deadlineMs: 3_000, policy: "continue" });
    await cluster.assertWhole(answer, 200);
    assert.deepEqual(
      states.map(({ kind }) => kind),
      ["connecting", "open", "open"],
    );
    assert.deepEqual([client.stats.goaways, client.stats.reconnects], [1, 1]);
  },
);

test("the node that answers is frozen for a while: nothing is lost or doubled", LIMIT, async (t) => {
  const { client } = await connect(t, { first: 2 });
  const answer = client.send("[sim tokens=120 rate=40 seed=5] hi");
  await received(answer, 30);
  await cluster.command(await cluster.owner(answer), "pause", { ms: 3_000 });
  await cluster.assertWhole(answer, 120);
});

test("two devices on two nodes read the same text, over the death of one of them", LIMIT, async (t) => {
  const [{ client: phone }, { client: laptop }] = [
    await connect(t, { first: 0 }),
    await connect(t, { first: 1 }),
  ];
  const asked = phone.send("[sim tokens=150 rate=50 seed=6] hi");
  await received(asked, 20);
  const joined = laptop.follow(asked.messageId!);
  const seen = events(joined);
  await received(joined, 40);
  await cluster.command(await cluster.owner(asked), "kill");
  await Promise.all([cluster.assertWhole(asked, 150), cluster.assertWhole(joined, 150)]);
  assert.equal(joined.content, asked.content);
  assert.deepEqual(seen, ["recovery", "takeover"], "the other device only hears of it");
  assert.equal(laptop.stats.reconnects, 0);
});

test("a cancelled answer ends with a seal, and what was shown is what is kept", LIMIT, async (t) => {
  const { client } = await connect(t);
  const answer = client.send("[sim tokens=2000 rate=40 seed=7] hi");
  await received(answer, 20);
  answer.cancel();
  const seal = await cluster.assertWhole(answer);
  assert.deepEqual([seal.status, answer.state], ["cancelled", "cancelled"]);
  assert.ok(seal.totalChunks < 2_000);
});

test("a reloaded page goes on from its snapshot, or from the bare cursor", LIMIT, async (t) => {
  const { client: page } = await connect(t);
  const first = page.send("[sim tokens=120 rate=60 seed=8] hi");
  await received(first, 40);
  const kept = JSON.parse(JSON.stringify({ id: first.messageId, at: first.snapshot() }));
  const before = first.content;
  page.close();
  const { client: reloaded } = await connect(t);
  const { client: other } = await connect(t);
  const { chunks: _, ...cursor } = kept.at;
  const [whole, rest] = [reloaded.follow(kept.id, kept.at), other.follow(kept.id, cursor)];
  assert.equal(whole.content, before);
  await Promise.all([cluster.assertWhole(whole, 120), rest.done]);
  assert.deepEqual(
    [rest.base, before + rest.content, rest.stats.digestOk],
    [kept.at.lastChunkIndex + 1, whole.content, true],
  );
  assert.equal(whole.stats.duplicates, 0);
});

test("a snapshot that is not the server's text is not shown for long", LIMIT, async (t) => {
  const { client: page } = await connect(t);
  const first = page.send("[sim tokens=60 rate=0 seed=9] hi");
  await first.done;
  const kept = structuredClone(first.snapshot());
  const forged = {
    ...kept,
    chunks: kept.chunks!.map((chunk, k) => (k === 7 ? { ...chunk, content: "forged" } : chunk)),
  };
  const { client } = await connect(t);
  const answer = client.follow(first.messageId!, forged);
  const seen = events(answer);
  await cluster.assertWhole(answer, 60);
  assert.deepEqual(seen, ["recovery", "reset"]);
});

test("a finished answer is read again, and one of nobody is NOT_FOUND", LIMIT, async (t) => {
  const { client } = await connect(t);
  const answer = client.send("[sim tokens=40 rate=0] hi");
  await answer.done;
  await cluster.assertWhole(client.follow(answer.messageId!), 40);
  const nothing = client.follow("018f4d5e-0000-7000-8000-000000000009");
  await assert.rejects(nothing.done, { code: "NOT_FOUND" });
  assert.equal(nothing.state, "error");
});

test("a request that is repeated starts nothing twice", LIMIT, async (t) => {
  const { client } = await connect(t);
  const request = { content: "[sim tokens=60 rate=60] hi", requestId: `again-${Date.now()}` };
  const one = client.send(request);
  await received(one, 10);
  const two = client.send(request);
  await Promise.all([cluster.assertWhole(one, 60), cluster.assertWhole(two, 60)]);
  assert.deepEqual([(await two.accepted).duplicate, two.messageId], [true, one.messageId]);
  assert.equal((await cluster.calls(one.messageId!)).length, 1);
});

test("where tokens do not get through in the handshake, a ticket does", LIMIT, async (t) => {
  class Stripped extends WebSocket {
    constructor(url: string, protocols: string[] = []) {
      super(
        url,
        protocols.filter((entry) => !entry.startsWith("bearer.")),
      );
    }
  }
  const { client } = await connect(t, { WebSocket: Stripped });
  await cluster.assertWhole(client.send("[sim tokens=20 rate=0] hi"), 20);
});

test("a token that is about to end is replaced in place, while it answers", LIMIT, async (t) => {
  let tokens = 0;
  const token = (): string => mint("alice", (tokens += 1) === 1 ? 61 : 3_600);
  const { client } = await connect(t, { token });
  const frames: string[] = [];
  client.on(
    "frame",
    ({ direction, type }) => type.startsWith("CHUNK") || frames.push(`${direction} ${type}`),
  );
  const answer = client.send("[sim tokens=120 rate=40] hi");
  await cluster.assertWhole(answer, 120);
  const wanted = ["in TOKEN_EXPIRING", "out AUTH", "in WELCOME"];
  assert.deepEqual(frames.filter((frame) => wanted.includes(frame)).slice(-3), wanted);
  assert.deepEqual([client.stats.connections, tokens], [1, 2]);
});

test("the policy restart: RESET takes the first text back, and the second is whole", LIMIT, async (t) => {
  const restarting = await Playground.start({ CHAT_TAKEOVER: "restart" });
  t.after(() => restarting.stop());
  const [first, second] = [await restarting.client({ first: 0 }), await restarting.client({ first: 1 })];
  t.after(() => [first, second].forEach((client) => client.close()));
  const asked = first.send("[sim tokens=90 rate=60 vary=epoch] hi");
  await received(asked, 30);
  const joined = second.follow(asked.messageId!);
  const seen = events(joined);
  await received(joined, 31);
  await restarting.command(await restarting.owner(asked), "kill");
  await Promise.all([restarting.assertWhole(asked, 90), restarting.assertWhole(joined, 90)]);
  assert.deepEqual(seen, ["recovery", "takeover", "reset"]);
  assert.equal(asked.stats.resets, 1);
});

/** A token that ends in so many seconds. */
function mint(sub: string, seconds: number): string {
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
  const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode({ sub, exp: Math.floor(Date.now() / 1_000) + seconds })}`;
  return `${body}.${createHmac("sha256", SECRET).update(body).digest("base64url")}`;
}
