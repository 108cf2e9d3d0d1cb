// The client over real sockets, against a server that does what the test says.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { WebSocket } from "ws";
import {
  ChatClient,
  ChatError,
  type ClientOptions,
  type ConnectionState,
  type FrameRecord,
} from "../src/index.js";
import { FakeServer } from "./fake-server.js";
import { ID, OTHER, chunk } from "./machine.js";

const [A, B, C] = [chunk("a"), chunk("b"), chunk("c")];
const LIMIT = { timeout: 20_000 };

async function start(
  t: TestContext,
  options: Partial<ClientOptions> = {},
): Promise<{ server: FakeServer; client: ChatClient; states: ConnectionState[] }> {
  const server = await FakeServer.start();
  const client = new ChatClient({ urls: server.url, token: () => "jwt-1", WebSocket, ...options });
  const states: ConnectionState[] = [];
  client.on("state", (state) => states.push(state));
  t.after(() => {
    client.close();
    server.stop();
  });
  return { server, client, states };
}

const kinds = (states: ConnectionState[]): string[] => states.map(({ kind }) => kind);
const stopped = (client: ChatClient): Promise<ConnectionState> =>
  new Promise((resolve) =>
    client.on("state", (state) => state.kind === "closed" && state.final && resolve(state)),
  );

test(
  "it offers the protocol and the token, then session and resume token; a token for each connection",
  LIMIT,
  async (t) => {
    let tokens = 0;
    const { server, client } = await start(t, { token: async () => `jwt-${(tokens += 1)}` });
    const first = await server.peer();
    assert.deepEqual(first.offered, ["chatcluster.v1", "bearer.jwt-1"]);
    assert.equal(first.query.get("sessionId"), null);
    first.welcome();
    first.ws.close(4000);
    const second = await server.peer();
    assert.deepEqual(second.offered, ["chatcluster.v1", "bearer.jwt-2", "resume.secret-resume"]);
    assert.equal(second.query.get("sessionId"), ID);
    assert.equal(client.sessionId, ID);
  },
);

test(
  "an answer goes on over a broken connection, and the inspector sees frames but no secret",
  LIMIT,
  async (t) => {
    const { server, client, states } = await start(t, { sessionId: OTHER });
    const frames: FrameRecord[] = [];
    client.on("frame", (frame) => frames.push(frame));
    const answer = client.send({ content: " hi ", options: { temperature: 0 }, onDisconnect: "cancel" });
    const first = await server.peer();
    assert.equal(first.query.get("sessionId"), OTHER);
    first.welcome("one");
    const request = await first.expect("CHAT_REQUEST");
    assert.deepEqual(
      { ...request, requestId: "" },
      {
        type: "CHAT_REQUEST",
        content: "hi",
        requestId: "",
        options: { temperature: 0 },
        onDisconnect: "cancel",
      },
    );
    first.accepted(request);
    first.chunks(0, [A, B]);
    await new Promise((resolve) => answer.on("chunk", ({ index }) => index === 1 && resolve(undefined)));
    first.ws.terminate();
    const second = await server.peer();
    second.welcome("two");
    const { lastChunkIndex, epoch, digest } = await second.expect("RECONNECT");
    assert.deepEqual([lastChunkIndex, epoch, digest], [1, 1, answer.stats.digest]);
    second.recovery(2, [A, B]);
    second.chunks(1, [B, C]);
    second.complete([A, B, C]);
    const seal = await answer.done;
    assert.deepEqual(
      [answer.content, seal.totalChunks, answer.state, answer.conversationId],
      ["abc", 3, "completed", OTHER],
    );
    const { duplicates, gaps, digestOk, recoveries } = answer.stats;
    assert.deepEqual(
      { duplicates, gaps, digestOk, recoveries },
      { duplicates: 1, gaps: 0, digestOk: true, recoveries: 1 },
    );
    assert.deepEqual(kinds(states), ["connecting", "open", "closed", "reconnecting", "connecting", "open"]);
    assert.deepEqual(
      frames.filter((frame) => frame.direction === "out").map(({ type, socket }) => `${type} ${socket}`),
      ["CHAT_REQUEST 1", "RECONNECT 2"],
    );
    const welcome = frames.find((frame) => frame.type === "WELCOME")!;
    assert.ok(welcome.bytes > 100 && welcome.node === "one" && Math.abs(Date.now() - welcome.at) < 20_000);
    assert.doesNotMatch(JSON.stringify(frames), /jwt-|secret-resume/);
  },
);

test(
  "GOAWAY: another socket is there before the old one is closed, and the state stays open",
  LIMIT,
  async (t) => {
    const { server, client, states } = await start(t);
    const answer = client.send("hi");
    const old = await server.peer();
    old.welcome("old");
    old.accepted(await old.expect("CHAT_REQUEST"));
    old.chunks(0, [A]);
    old.frame("GOAWAY", {
      reason: "drain",
      deadlineMs: 5_000,
      reconnectAfterMs: 30,
      resumeToken: "secret-goaway",
    });
    const next = await server.peer();
    assert.ok(next.offered.includes("resume.secret-goaway"));
    old.chunks(1, [B]);
    next.welcome("next");
    await next.expect("RECONNECT");
    assert.equal(old.ws.readyState, WebSocket.OPEN);
    next.recovery(1, [A]);
    next.chunks(1, [B, C]);
    assert.equal(await old.closed(), 1000);
    next.complete([A, B, C]);
    await answer.done;
    assert.equal(answer.content, "abc");
    assert.deepEqual(
      states.map((state) => (state.kind === "open" ? state.node : state.kind)),
      ["connecting", "old", "next"],
    );
    assert.deepEqual([client.stats.goaways, client.stats.reconnects], [1, 1]);
  },
);

test("a request refused for now is sent again with the same requestId", LIMIT, async (t) => {
  const { server, client } = await start(t);
  const answer = client.send("hi");
  const peer = await server.peer();
  peer.welcome();
  const first = await peer.expect("CHAT_REQUEST");
  const warned = new Promise((resolve) => client.on("warning", resolve));
  peer.frame(
    "ERROR",
    { code: "STORE_UNAVAILABLE", retryable: true, retryAfterMs: 20, requestId: first["requestId"] },
    "away",
  );
  assert.deepEqual(((await warned) as { error: string }).error, "away");
  const again = await peer.expect("CHAT_REQUEST");
  assert.deepEqual(again, first);
  peer.accepted(again);
  peer.complete([]);
  assert.equal((await answer.accepted).messageId, ID);
  assert.equal((await answer.done).totalChunks, 0);
  assert.equal(answer.stats.digestOk, true);
});

test("upgrades that are refused without a word lead to a ticket", LIMIT, async (t) => {
  const { server, client } = await start(t);
  server.refusals.push(503, 503, 503);
  server.tickets.push({ status: 200, body: { ticket: "once+only", expiresAt: "2030-01-01T00:00:00Z" } });
  const peer = await server.peer();
  assert.deepEqual(server.asked, ["Bearer jwt-1"]);
  assert.equal(peer.query.get("ticket"), "once+only");
  assert.deepEqual(peer.offered, ["chatcluster.v1"]);
  const open = new Promise((resolve) =>
    client.on("state", (state) => state.kind === "open" && resolve(state)),
  );
  peer.welcome();
  await open;
});

test(
  "a token that the server refuses is replaced, then everything ends with UNAUTHENTICATED",
  LIMIT,
  async (t) => {
    let tokens = 0;
    const { server, client } = await start(t, { token: () => `jwt-${(tokens += 1)}`, random: () => 0.1 });
    server.refusals.push(...Array<number>(20).fill(401));
    const refused = { status: 401, body: { code: "UNAUTHENTICATED", title: "Authentication failed" } };
    server.tickets.push(refused, refused, refused);
    const answer = client.send("hi");
    const end = await stopped(client);
    assert.ok(
      end.kind === "closed" &&
        end.code === 4500 &&
        /401 \(UNAUTHENTICATED: Authentication failed\)/.test(end.reason),
      JSON.stringify(end),
    );
    await assert.rejects(answer.done, (error: ChatError) => error.code === "UNAUTHENTICATED");
    assert.deepEqual(server.asked, ["Bearer jwt-4", "Bearer jwt-5", "Bearer jwt-6"]);
    assert.throws(
      () => client.send("more"),
      (error: ChatError) => error.code === "UNAUTHENTICATED",
    );
  },
);

test("TOKEN_EXPIRING: a new token goes over the same socket", LIMIT, async (t) => {
  let tokens = 0;
  const { server, client } = await start(t, { token: () => `jwt-${(tokens += 1)}` });
  const frames: FrameRecord[] = [];
  client.on("frame", (frame) => frames.push(frame));
  const peer = await server.peer();
  peer.welcome();
  peer.frame("TOKEN_EXPIRING", { expiresAt: "2030-01-01T00:00:00Z" });
  assert.equal((await peer.expect("AUTH"))["token"], "jwt-2");
  peer.welcome();
  const answer = client.send("hi");
  peer.accepted(await peer.expect("CHAT_REQUEST"));
  await answer.accepted;
  assert.equal(client.stats.connections, 1);
  assert.doesNotMatch(JSON.stringify(frames), /jwt-/);
});

test("4001 fetches a new token and resumes", LIMIT, async (t) => {
  let tokens = 0;
  const { server, client } = await start(t, { token: () => `jwt-${(tokens += 1)}` });
  const answer = client.follow(ID);
  const first = await server.peer();
  first.welcome();
  await first.expect("RECONNECT");
  first.ws.close(4001);
  const second = await server.peer();
  assert.ok(second.offered.includes("bearer.jwt-2"));
  second.welcome();
  await second.expect("RECONNECT");
  second.recovery(0, []);
  second.complete([]);
  await answer.done;
});

test("a token that cannot be had now is asked for again; logged out means stop", LIMIT, async (t) => {
  const answers: (string | Error)[] = [
    new Error("offline"),
    "jwt-2",
    new ChatError("UNAUTHENTICATED", "logged out"),
  ];
  const token = (): string => {
    const next = answers.shift();
    if (typeof next === "string") return next;
    throw next;
  };
  const { server, client, states } = await start(t, { token });
  const peer = await server.peer();
  const failed = states.find((state) => state.kind === "reconnecting");
  assert.ok(failed?.kind === "reconnecting" && failed.why === "no token: offline");
  peer.welcome();
  const end = stopped(client);
  peer.ws.close(4000);
  assert.deepEqual(await end, { kind: "closed", code: 4500, reason: "no token: logged out", final: true });
});

test("a server that falls silent is left after one and a half heartbeats", LIMIT, async (t) => {
  const { server, client } = await start(t);
  const answer = client.follow(ID);
  const silent = await server.peer();
  silent.welcome("silent", 60);
  await silent.expect("HEARTBEAT");
  silent.ws.pause();
  const next = await server.peer();
  next.welcome("next");
  await next.expect("RECONNECT");
  next.recovery(0, []);
  next.complete([]);
  await answer.done;
});

test("heartbeats that are answered keep a socket", LIMIT, async (t) => {
  const { server, client } = await start(t);
  const peer = await server.peer();
  peer.welcome("steady", 40);
  for (let k = 0; k < 8; k++) {
    const { t: sentAt } = await peer.expect("HEARTBEAT");
    peer.frame("HEARTBEAT_ACK", { t: sentAt });
  }
  assert.equal(client.stats.connections, 1);
  assert.ok((client.stats.rttMs ?? -1) >= 0);
});

test("a close code of no return ends the client and its answers", LIMIT, async (t) => {
  const { server, client } = await start(t);
  const answer = client.follow(ID);
  const end = stopped(client);
  const peer = await server.peer();
  peer.welcome();
  peer.ws.close(4504, "too many");
  assert.deepEqual(await end, { kind: "closed", code: 4504, reason: "too many", final: true });
  await assert.rejects(
    answer.done,
    (error: ChatError) => error.code === "REFUSED" && error.closeCode === 4504,
  );
});

test("what is no frame is counted and ignored, what is new is ignored", LIMIT, async (t) => {
  const { server, client } = await start(t);
  const answer = client.send("hi");
  const peer = await server.peer();
  peer.welcome();
  peer.accepted(await peer.expect("CHAT_REQUEST"));
  for (const message of ["", "{", "null", '{"type":"CHUNK","data":{}}', Buffer.from([1, 2])])
    peer.ws.send(message);
  peer.frame("HOLOGRAM", { x: 1 });
  peer.frame("CHUNKS", {
    messageId: ID,
    index: 0,
    epoch: 1,
    chunks: [{ type: "SMELL", content: "rose" }, A],
    new: true,
  });
  peer.complete([{ type: "SMELL" as "TEXT", content: "rose" }, A]);
  await answer.done;
  assert.deepEqual([answer.content, answer.chunks.length], ["a", 2]);
  assert.deepEqual([client.stats.unreadable, client.stats.unknown], [5, 1]);
});

test(
  "the same requestId is the same answer while it waits, and the same text afterwards",
  LIMIT,
  async (t) => {
    const { server, client } = await start(t);
    const one = client.send({ content: "hi", requestId: "r-1" });
    assert.equal(client.send({ content: "hi", requestId: "r-1" }), one);
    const peer = await server.peer();
    peer.welcome();
    peer.accepted(await peer.expect("CHAT_REQUEST"));
    peer.chunks(0, [A, B]);
    await one.accepted;
    const two = client.send({ content: "hi", requestId: "r-1" });
    peer.accepted(await peer.expect("CHAT_REQUEST"), true);
    peer.chunks(0, [A, B, C]);
    peer.complete([A, B, C]);
    await Promise.all([one.done, two.done]);
    assert.deepEqual([one.content, two.content, (await two.accepted).duplicate], ["abc", "abc", true]);
  },
);

test("unfollow ends it here, and says so to the server", LIMIT, async (t) => {
  const { server, client } = await start(t);
  const answer = client.follow(ID);
  assert.equal(client.follow(ID.toUpperCase()), answer);
  const peer = await server.peer();
  peer.welcome();
  await peer.expect("RECONNECT");
  answer.unfollow();
  await peer.expect("UNFOLLOW");
  assert.equal(answer.state, "unfollowed");
  await assert.rejects(answer.done, (error: ChatError) => error.code === "UNFOLLOWED");
  assert.notEqual(client.follow(ID), answer);
});

test("what no server would take is refused at once", LIMIT, async (t) => {
  const { client } = await start(t);
  const refused = (request: Parameters<typeof client.send>[0]): void =>
    assert.throws(() => client.send(request), TypeError, JSON.stringify(request));
  for (const content of ["", "  ", "x".repeat(10_001)]) refused(content);
  for (const requestId of ["", "a b", "ä", "x".repeat(65)]) refused({ content: "hi", requestId });
  refused({ content: "hi", conversationId: "new" });
  assert.throws(() => client.follow("not-a-uuid"), TypeError);
  assert.throws(() => client.follow(ID, { lastChunkIndex: 3, chunks: [A] }), TypeError);
  assert.throws(() => client.follow(ID, { lastChunkIndex: -2 }), TypeError);
  assert.throws(() => new ChatClient({ urls: [], token: "t", WebSocket }), TypeError);
  client.send("😀".repeat(10_000)).unfollow();
});

test("an answer is cancelled before it was sent, and there is room for so many only", LIMIT, async (t) => {
  const { client } = await start(t);
  const answer = client.send("hi");
  answer.cancel();
  await assert.rejects(answer.done, (error: ChatError) => error.code === "CANCELLED");
  for (let k = 0; k < 256; k++) client.send("hi");
  assert.throws(
    () => client.send("hi"),
    (error: ChatError) => error.code === "RATE_LIMITED",
  );
});

/** Runs a script with the built package; gives its exit code and how long it took. */
async function script(source: string): Promise<{ code: number | null; ms: number; output: string }> {
  const began = Date.now();
  const child = spawn(process.execPath, ["--input-type=module", "-e", source], {
    cwd: new URL("../..", import.meta.url),
  });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (data) => (output += String(data)));
  const [code] = (await once(child, "exit")) as [number | null];
  return { code, ms: Date.now() - began, output };
}

const IMPORTS = 'import { ChatClient } from "@chatcluster/client"; import { WebSocket } from "ws";';

test(
  "a closed client leaves nothing behind: the process ends, without an unhandled rejection",
  LIMIT,
  async (t) => {
    const { server } = await start(t);
    for (const [what, urls] of [
      ["open", server.url],
      ["nobody there", "ws://127.0.0.1:1"],
      ["never answers", "ws://192.0.2.1"],
    ]) {
      const source = `${IMPORTS}
      const client = new ChatClient({ urls: ${JSON.stringify(urls)}, token: "t", WebSocket });
      client.send("hi"); client.follow("${ID}");
      setTimeout(() => client.close(), 200);`;
      const { code, ms, output } = await script(source);
      assert.deepEqual([code, output], [0, ""], what);
      assert.ok(ms < 5_000, `${what}: ${ms} ms`);
    }
  },
);

test("a peer that does not answer the goodbye is let go of", LIMIT, async (t) => {
  const { server, client } = await start(t);
  client.close();
  const running = script(`${IMPORTS}
    const client = new ChatClient({ urls: ${JSON.stringify(server.url)}, token: "t", WebSocket });
    client.on("state", ({ kind }) => kind === "open" && client.close());`);
  const peer = await server.peer();
  peer.welcome();
  peer.ws.pause();
  const { code, ms } = await running;
  assert.equal(code, 0);
  assert.ok(ms < 5_000, `${ms} ms`);
});
