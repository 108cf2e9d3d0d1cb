import assert from "node:assert/strict";
import { test } from "node:test";
import { parse } from "../src/parse.js";

const encode = (type: unknown, data: unknown, more: object = {}): string =>
  JSON.stringify({ type, timestamp: "2026-01-01T00:00:00Z", data, ...more });

const GOOD: Record<string, Record<string, unknown>> = {
  WELCOME: { sessionId: "s", userId: "u", node: "n", heartbeatMs: 20_000, resumeToken: "r" },
  ACCEPTED: { messageId: "m", conversationId: "c", userMessageId: "u", duplicate: false },
  CHUNK: { messageId: "m", index: 0, epoch: 1, type: "TEXT", content: "a" },
  CHUNKS: { messageId: "m", index: 0, epoch: 1, chunks: [{ type: "TEXT", content: "a" }] },
  COMPLETE: { messageId: "m", conversationId: "c", status: "completed", totalChunks: 1, digest: "c88d6113" },
  RECOVERY: {
    messageId: "m",
    status: "RECOVERED",
    from: 0,
    tail: 1,
    epoch: 1,
    live: true,
    digest: "00000000",
    source: "memory",
  },
  RESET: { messageId: "m", reason: "ROLLED_BACK", truncateTo: 0, epoch: 2 },
  TAKEOVER: { messageId: "m", epoch: 2, from: 4, mode: "continue" },
  STATUS: { messageId: "m", state: "paused", reason: "STORE_UNAVAILABLE" },
  GOAWAY: { reason: "drain", deadlineMs: 5_000, reconnectAfterMs: 10, resumeToken: "r" },
  TOKEN_EXPIRING: { expiresAt: "2026-01-01T00:00:00Z" },
  HEARTBEAT_ACK: {},
  ERROR: { code: "RATE_LIMITED", retryable: true },
};

test("every frame of the protocol is read", () => {
  for (const [type, data] of Object.entries(GOOD)) {
    const parsed = parse(encode(type, data));
    assert.equal(parsed.kind, "frame", type);
    assert.equal(parsed.kind === "frame" && parsed.frame.type, type);
  }
});

test("CHUNK is CHUNKS of one", () => {
  const parsed = parse(encode("CHUNK", { ...GOOD["CHUNK"], metadata: { callId: "c" } }));
  assert.ok(parsed.kind === "frame" && parsed.frame.type === "CHUNK");
  assert.deepEqual(parsed.frame.data.chunks, [{ type: "TEXT", content: "a", metadata: { callId: "c" } }]);
});

test("the human text of an ERROR stands beside its code", () => {
  const parsed = parse(encode("ERROR", GOOD["ERROR"], { error: "Rate limit exceeded" }));
  assert.ok(parsed.kind === "frame" && parsed.frame.type === "ERROR");
  assert.equal(parsed.frame.data.error, "Rate limit exceeded");
});

test("a type of a later version is unknown, not unreadable", () => {
  assert.deepEqual(parse(encode("HOLOGRAM", { x: 1 })), {
    kind: "unknown",
    type: "HOLOGRAM",
    data: { x: 1 },
  });
  for (const name of ["constructor", "__proto__", "toString"])
    assert.equal(parse(encode(name, {})).kind, "unknown", name);
});

test("a field that is missing or of another type makes a frame unreadable", () => {
  const absentIsFine = [
    "userId",
    "userMessageId",
    "duplicate",
    "live",
    "source",
    "reason",
    "from:TAKEOVER",
    "mode",
    "deadlineMs",
    "expiresAt",
  ];
  for (const [type, data] of Object.entries(GOOD)) {
    for (const field of Object.keys(data)) {
      if (absentIsFine.includes(field) || absentIsFine.includes(`${field}:${type}`)) continue;
      const { [field]: _, ...without } = data;
      assert.equal(parse(encode(type, without)).kind, "unreadable", `${type} without ${field}`);
      for (const bad of [{}, [], true === data[field] ? "x" : true, -1, 1.5, 1e300]) {
        const fits =
          typeof data[field] === "number" &&
          ["heartbeatMs", "reconnectAfterMs"].includes(field) &&
          (bad === 1.5 || bad === 1e300);
        if (!fits && data[field] !== bad && !(field === "chunks" && Array.isArray(bad))) {
          assert.equal(
            parse(encode(type, { ...data, [field]: bad })).kind,
            "unreadable",
            `${type}.${field} = ${JSON.stringify(bad)}`,
          );
        }
      }
    }
  }
});

test("no message makes it throw", () => {
  const hostile: unknown[] = [
    "",
    "{",
    "null",
    "[]",
    "7",
    '"CHUNK"',
    "{}",
    '{"type":7}',
    '{"type":"CHUNK"}',
    '{"type":"CHUNK","data":null}',
    '{"type":"CHUNKS","data":[]}',
    encode("CHUNKS", { ...GOOD["CHUNKS"], chunks: [null] }),
    encode("CHUNKS", { ...GOOD["CHUNKS"], chunks: [{ type: "TEXT", content: "" }] }),
    '{"type":"RESET","data":{"__proto__":{"messageId":"m","truncateTo":0,"epoch":1}}}',
    "[".repeat(100_000),
    undefined,
    null,
    7,
    new ArrayBuffer(8),
    Buffer.from("{}"),
  ];
  for (const message of hostile)
    assert.equal(parse(message).kind, "unreadable", String(message).slice(0, 60));
});
