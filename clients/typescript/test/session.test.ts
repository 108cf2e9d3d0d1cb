import assert from "node:assert/strict";
import { test } from "node:test";
import { PATIENCE_MS, TRIES } from "../src/requests.js";
import { REREADS } from "../src/session.js";
import { ID, Machine, OTHER, chunk, digestOf } from "./machine.js";

const [A, B, C, X] = [chunk("a"), chunk("b"), chunk("c"), chunk("x")];

test("a request waits for WELCOME and is sent once", () => {
  const machine = new Machine();
  machine.send();
  assert.equal(machine.sent("CHAT_REQUEST").length, 0);
  const socket = machine.welcome();
  machine.advance(10_000);
  assert.deepEqual(
    machine.sent("CHAT_REQUEST").map(({ socket }) => socket),
    [socket],
  );
});

test("a request that was not accepted is repeated with its requestId, an accepted one is not", () => {
  const machine = new Machine();
  const first = machine.welcome();
  machine.send();
  machine.close(first);
  machine.advance(200);
  const second = machine.welcome();
  assert.deepEqual(
    machine.sent("CHAT_REQUEST").map(({ socket, frame }) => [socket, frame.requestId]),
    [
      [first, "r-1"],
      [second, "r-1"],
    ],
  );
  machine.accepted(second, "r-1", true);
  machine.close(second);
  machine.advance(400);
  machine.welcome();
  assert.equal(machine.sent("CHAT_REQUEST").length, 2);
  assert.equal(machine.sent("RECONNECT").length, 1);
});

test("an answer comes whole: accepted, chunks, complete", () => {
  const { machine, socket } = Machine.answering("a", "b");
  machine.chunks(socket, 2, "c");
  machine.complete(socket, [A, B, C]);
  assert.equal(machine.of("accepted").length, 1);
  assert.deepEqual(machine.events, ["chunk 0", "chunk 1", "chunk 2", "complete"]);
  machine.chunks(socket, 3, "d");
  assert.equal(machine.events.length, 4, "nothing after the end");
});

test("after a lost connection the cursor has index, epoch and digest, and duplicates are dropped", () => {
  const { machine, socket } = Machine.answering("a", "b");
  machine.close(socket);
  machine.advance(200);
  const next = machine.welcome();
  const cursor = { lastChunkIndex: 1, epoch: 1, digest: digestOf([A, B]) };
  assert.deepEqual(machine.sent("RECONNECT"), [
    { kind: "send", socket: next, frame: { type: "RECONNECT", messageId: ID, ...cursor } },
  ]);
  machine.recovery(next, 2, [A, B]);
  machine.chunks(next, 1, "b", "c");
  machine.complete(next, [A, B, C]);
  assert.deepEqual(machine.events, ["chunk 0", "chunk 1", "recovery", "chunk 2", "complete"]);
  assert.equal(machine.last("tell")?.follow.counters.duplicates, 1);
});

test("a gap shows nothing, is counted, and is asked for again", () => {
  const { machine, socket } = Machine.answering("a");
  machine.chunks(socket, 2, "c");
  assert.deepEqual(machine.events, ["chunk 0"]);
  machine.chunks(socket, 1, "b");
  assert.deepEqual(machine.events, ["chunk 0"], "nothing is believed before RECOVERY");
  machine.advance(100);
  assert.equal(machine.sent("RECONNECT").length, 1);
  machine.recovery(socket, 1, [A]);
  machine.chunks(socket, 1, "b", "c");
  machine.complete(socket, [A, B, C]);
  assert.deepEqual(machine.events, ["chunk 0", "recovery", "chunk 1", "chunk 2", "complete"]);
  assert.equal(machine.last("tell")?.follow.counters.gaps, 1);
});

test("a seal that counts more than came is a gap", () => {
  const { machine, socket } = Machine.answering("a");
  machine.complete(socket, [A, B]);
  assert.deepEqual(machine.events, ["chunk 0"]);
  machine.advance(100);
  machine.recovery(socket, 1, [A], "COMPLETED");
  machine.chunks(socket, 1, "b");
  machine.complete(socket, [A, B]);
  assert.equal(machine.events.at(-1), "complete");
});

test("a RECOVERY of another text: ours is void and the answer is read from the start", () => {
  const { machine, socket } = Machine.answering("a", "b");
  machine.close(socket);
  machine.advance(200);
  const next = machine.welcome();
  machine.recovery(next, 2, [A, X]);
  machine.chunks(next, 2, "c");
  machine.advance(200);
  assert.deepEqual(machine.sent("RECONNECT").at(-1)?.frame, {
    type: "RECONNECT",
    messageId: ID,
    lastChunkIndex: -1,
  });
  machine.recovery(next, 0, []);
  machine.chunks(next, 0, "a", "x", "c");
  machine.complete(next, [A, X, C]);
  assert.deepEqual(machine.events, [
    "chunk 0",
    "chunk 1",
    "recovery",
    "reset",
    "recovery",
    "chunk 0",
    "chunk 1",
    "chunk 2",
    "complete",
  ]);
  assert.equal(machine.last("tell")?.follow.counters.mismatches, 1);
});

test("a seal whose digest never fits ends in an error, not in a text", () => {
  const { machine, socket } = Machine.answering("a");
  for (let k = 0; k <= REREADS; k++) {
    machine.complete(socket, [X]);
    machine.advance(2_000);
    machine.recovery(socket, 0, []);
    machine.chunks(socket, 0, "a");
  }
  const event = machine.last("tell")?.event;
  assert.ok(event?.type === "error" && event.error.code === "INCONSISTENT");
  assert.ok(!machine.events.includes("complete"));
});

test("RESET takes back what is void, and the answer goes on from there", () => {
  const { machine, socket } = Machine.answering("a", "b", "c");
  machine.frame(socket, "TAKEOVER", { messageId: ID, epoch: 2, from: 1, mode: "restart" });
  machine.frame(socket, "RESET", { messageId: ID, reason: "RESTARTED", truncateTo: 1, epoch: 2 });
  assert.deepEqual(machine.cursor, { lastChunkIndex: 0, epoch: 1, digest: digestOf([A]) });
  machine.chunks(socket, 1, "x");
  machine.complete(socket, [A, X]);
  assert.deepEqual(machine.events.slice(3), ["takeover", "reset", "chunk 1", "complete"]);
});

test("GOAWAY: the new socket is opened at its slot, elsewhere, and the old one speaks until RECOVERY", () => {
  const { machine, socket: old } = Machine.answering("a");
  machine.frame(old, "GOAWAY", {
    reason: "drain",
    deadlineMs: 5_000,
    reconnectAfterMs: 700,
    resumeToken: "token-of-goaway",
  });
  machine.advance(699);
  assert.equal(machine.of("dial").length, 1);
  machine.advance(1);
  const dial = machine.last("dial");
  assert.ok(dial !== undefined && dial.socket !== old && dial.address !== 0);
  assert.equal(dial.resume, "token-of-goaway");
  const next = machine.welcome();
  machine.chunks(old, 1, "b");
  assert.deepEqual(machine.events, ["chunk 0", "chunk 1"]);
  assert.deepEqual(machine.of("close"), []);
  machine.recovery(next, 1, [A]);
  machine.chunks(old, 2, "c");
  machine.chunks(next, 1, "b", "c");
  assert.deepEqual(machine.events, ["chunk 0", "chunk 1", "recovery", "chunk 2"]);
  assert.deepEqual(machine.of("close"), [{ kind: "close", socket: old }]);
  assert.deepEqual(
    machine.of("state").map(({ state }) => state.kind),
    ["connecting", "open", "open"],
    "never down",
  );
  machine.close(old, 1000);
  machine.complete(next, [A, B, C]);
  assert.equal(machine.events.at(-1), "complete");
});

test("a request that is under way during a move is accepted once and followed on the new socket", () => {
  const machine = new Machine();
  const old = machine.welcome();
  machine.frame(old, "GOAWAY", { reason: "drain", deadlineMs: 5_000, reconnectAfterMs: 0, resumeToken: "r" });
  machine.tick();
  machine.send();
  const next = machine.welcome();
  machine.accepted(old);
  machine.chunks(old, 0, "a");
  machine.accepted(next, "r-1", true);
  machine.chunks(next, 0, "a", "b");
  machine.complete(next, [A, B]);
  assert.equal(machine.of("accepted").length, 1);
  assert.deepEqual(machine.events, ["chunk 0", "chunk 1", "complete"]);
});

test("a duplicate's ACCEPTED on the new socket makes it the source: the server dropped the RECONNECT for it", () => {
  const { machine, socket: old } = Machine.answering("a");
  machine.frame(old, "GOAWAY", { reason: "drain", deadlineMs: 5_000, reconnectAfterMs: 0, resumeToken: "r" });
  machine.tick();
  const next = machine.welcome();
  machine.send();
  machine.accepted(next, "r-1", true);
  machine.chunks(next, 0, "a", "b");
  machine.complete(next, [A, B]);
  assert.deepEqual(machine.events, ["chunk 0", "chunk 1", "complete"]);
});

test("after RESET on the new socket the old one's text is not believed", () => {
  const { machine, socket: old } = Machine.answering("a");
  machine.frame(old, "GOAWAY", { reason: "drain", deadlineMs: 5_000, reconnectAfterMs: 0, resumeToken: "r" });
  machine.do((session, now) => session.follow(OTHER, undefined, now));
  machine.frame(old, "RECOVERY", {
    messageId: OTHER,
    status: "RECOVERED",
    from: 0,
    tail: 0,
    epoch: 1,
    digest: "00000000",
  });
  machine.tick();
  const next = machine.welcome();
  machine.recovery(next, 0, []);
  machine.frame(next, "RESET", { messageId: ID, reason: "RESTARTED", truncateTo: 0, epoch: 2 });
  machine.chunks(old, 0, "a", "b");
  machine.complete(old, [A, B]);
  assert.deepEqual(
    machine.events.slice(2),
    ["recovery", "reset"],
    "the old socket is still open, for the other answer",
  );
  assert.deepEqual(machine.of("close"), []);
});

test("what is under way when RECONNECT is sent again is not believed", () => {
  const { machine, socket } = Machine.answering("a");
  machine.chunks(socket, 2, "c");
  machine.advance(100);
  machine.chunks(socket, 3, "d");
  machine.complete(socket, [A, B, C, X]);
  machine.advance(1_000);
  assert.equal(machine.sent("RECONNECT").length, 1);
  machine.recovery(socket, 1, [A]);
  assert.equal(machine.last("tell")?.follow.counters.gaps, 1);
});

test("sockets that are told to go at once do not make a storm", () => {
  const machine = new Machine();
  for (let k = 0; k < 20; k++) {
    const socket = machine.welcome();
    machine.frame(socket, "GOAWAY", {
      reason: "drain",
      deadlineMs: 5_000,
      reconnectAfterMs: 0,
      resumeToken: "r",
    });
    machine.advance(1);
    const { dialled } = machine;
    while (machine.dialled === dialled && machine.dialled === socket) machine.advance(10);
  }
  assert.ok(machine.now - 1_000_000 > 10_000, `${machine.now - 1_000_000} ms for twenty moves`);
});

test("a request refused for now is tried again when the server said, then accepted", () => {
  const machine = new Machine();
  const socket = machine.welcome();
  machine.send();
  machine.frame(
    socket,
    "ERROR",
    { code: "STORE_UNAVAILABLE", retryable: true, retryAfterMs: 3_000, requestId: "r-1" },
    "away",
  );
  machine.advance(2_999);
  assert.equal(machine.sent("CHAT_REQUEST").length, 1);
  machine.advance(200);
  assert.equal(machine.sent("CHAT_REQUEST").length, 2);
  assert.equal(machine.of("warning").length, 1);
  assert.equal(machine.of("refused").length, 0);
});

test("a request is given up when it was refused often and for long, not before", () => {
  const machine = new Machine();
  const socket = machine.welcome();
  machine.send();
  const refuse = (): void =>
    machine.frame(socket, "ERROR", {
      code: "STORE_UNAVAILABLE",
      retryable: true,
      retryAfterMs: 1_000,
      requestId: "r-1",
    });
  const start = machine.now;
  while (machine.of("refused").length === 0) {
    const tries = machine.sent("CHAT_REQUEST").length;
    refuse();
    if (machine.of("refused").length > 0) break;
    while (machine.sent("CHAT_REQUEST").length === tries) machine.advance(100);
    machine.frame(socket, "HEARTBEAT_ACK", {});
  }
  assert.ok(machine.now - start >= PATIENCE_MS && machine.sent("CHAT_REQUEST").length >= TRIES);
  assert.equal(machine.last("refused")?.error.code, "STORE_UNAVAILABLE");
});

test("a request refused for good fails at once", () => {
  const machine = new Machine();
  machine.send();
  machine.frame(
    machine.welcome(),
    "ERROR",
    { code: "INVALID_MESSAGE", retryable: false, requestId: "r-1" },
    "content",
  );
  assert.equal(machine.last("refused")?.error.message, "content");
});

test("a final ERROR ends its follow; a retryable one is asked again", () => {
  const { machine, socket } = Machine.answering("a");
  machine.do((session, now) => session.follow(OTHER, undefined, now));
  machine.frame(socket, "RECOVERY", {
    messageId: OTHER,
    status: "NOT_FOUND",
    from: 0,
    tail: 0,
    epoch: 0,
    digest: "00000000",
  });
  machine.frame(socket, "ERROR", { code: "NOT_FOUND", retryable: false, messageId: OTHER, final: true });
  assert.equal(machine.last("tell")?.follow.messageId, OTHER);
  assert.equal(machine.events.at(-1), "error");
  machine.frame(socket, "ERROR", { code: "INTERNAL", retryable: true, messageId: ID, final: true });
  machine.advance(100);
  assert.equal(machine.sent("RECONNECT").at(-1)?.frame.messageId, ID);
  machine.frame(socket, "ERROR", { code: "RESET", retryable: true, messageId: ID, final: true });
  machine.advance(200);
  assert.equal(machine.sent("RECONNECT").at(-1)?.frame.lastChunkIndex, -1);
});

test("cancel is repeated on every new socket until the end", () => {
  const { machine, socket } = Machine.answering("a");
  machine.do((session) => session.cancel(ID));
  machine.close(socket);
  machine.advance(200);
  const next = machine.welcome();
  assert.deepEqual(
    machine.sent("CANCEL_STREAM").map(({ socket }) => socket),
    [socket, next],
  );
  machine.frame(next, "ERROR", {
    code: "STORE_UNAVAILABLE",
    retryable: true,
    messageId: ID,
    retryAfterMs: 500,
  });
  machine.advance(700);
  assert.equal(machine.sent("CANCEL_STREAM").length, 3);
});

test("an answer cancelled before it was accepted is cancelled as soon as it is; one never sent is not sent", () => {
  const machine = new Machine();
  machine.send("never");
  assert.equal(
    machine.do((session) => session.cancelRequest("never")),
    false,
  );
  const socket = machine.welcome();
  machine.send();
  assert.equal(
    machine.do((session) => session.cancelRequest("r-1")),
    true,
  );
  machine.accepted(socket);
  assert.deepEqual(
    machine.sent("CHAT_REQUEST").map(({ frame }) => frame.requestId),
    ["r-1"],
  );
  assert.equal(machine.sent("CANCEL_STREAM").length, 1);
});

test("what is let go is unfollowed, also when it is accepted only then", () => {
  const { machine, socket } = Machine.answering("a");
  machine.do((session, now) => session.unfollow(ID, now));
  machine.chunks(socket, 1, "b");
  assert.deepEqual(machine.events, ["chunk 0"]);
  machine.send("r-2");
  machine.do((session) => session.forgetRequest("r-2"));
  machine.accepted(socket, "r-2");
  assert.equal(machine.sent("UNFOLLOW").length, 2);
  assert.equal(machine.of("accepted").length, 1);
});

test("STATUS of the socket that was asked is heard while nobody else speaks", () => {
  const { machine, socket } = Machine.answering("a");
  machine.close(socket);
  machine.advance(200);
  const next = machine.welcome();
  machine.frame(next, "STATUS", { messageId: ID, state: "paused", reason: "STORE_UNAVAILABLE" });
  assert.equal(machine.events.at(-1), "status");
});

test("frames about what is not followed, and frames of gone sockets, do nothing", () => {
  const { machine, socket } = Machine.answering("a");
  const before = machine.log.length;
  for (const type of ["CHUNKS", "COMPLETE", "RECOVERY", "RESET", "TAKEOVER", "STATUS"]) {
    const data = {
      messageId: OTHER,
      index: 0,
      epoch: 1,
      chunks: [A],
      conversationId: OTHER,
      status: "completed",
      totalChunks: 0,
    };
    machine.frame(socket, type, {
      ...data,
      digest: "00000000",
      from: 0,
      tail: 0,
      truncateTo: 0,
      state: "live",
      mode: "continue",
    });
    machine.frame(socket + 7, type, {
      ...data,
      messageId: ID,
      digest: "00000000",
      from: 0,
      tail: 0,
      truncateTo: 0,
      state: "live",
    });
  }
  assert.equal(machine.log.length, before);
});
