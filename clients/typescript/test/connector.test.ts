import assert from "node:assert/strict";
import { test } from "node:test";
import { LONGEST_MS, STABLE_MS } from "../src/backoff.js";
import { UNEXPLAINED } from "../src/connector.js";
import { STEP_MS } from "../src/socket.js";
import { ID, Machine } from "./machine.js";

const states = (machine: Machine): string[] => machine.of("state").map(({ state }) => state.kind);

test("a failure rotates to another address, with growing pauses", () => {
  const machine = new Machine({ random: () => 0.999 });
  const pauses: number[] = [];
  for (let k = 0; k < 12; k++) {
    const { address } = machine.last("dial")!;
    machine.close(machine.dialled);
    const state = machine.last("state")?.state;
    assert.ok(state?.kind === "reconnecting" && state.attempt === k + 1);
    pauses.push(state.inMs);
    machine.advance(state.inMs + 1);
    assert.notEqual(machine.last("dial")!.address, address);
  }
  assert.ok(pauses[0]! < 100 && pauses[5]! > 3_000 && pauses.at(-1)! > 0.9 * LONGEST_MS, pauses.join());
});

test("a connection that breaks before it was stable does not reset the backoff", () => {
  const attempt = (livedMs: number): number => {
    const machine = new Machine();
    for (let k = 0; k < 5; k++) {
      machine.close(machine.welcome());
      machine.advance(LONGEST_MS);
    }
    const socket = machine.welcome();
    machine.advance(livedMs / 2);
    machine.frame(socket, "HEARTBEAT_ACK", {});
    machine.advance(livedMs / 2);
    machine.close(socket);
    const state = machine.last("state")?.state;
    return state?.kind === "reconnecting" ? state.attempt : -1;
  };
  assert.equal(attempt(STABLE_MS - 2), 6);
  assert.equal(attempt(STABLE_MS), 1);
});

test("session id and resume token go with the next dial", () => {
  const machine = new Machine();
  machine.close(machine.welcome());
  machine.advance(200);
  const { sessionId, resume } = machine.last("dial")!;
  assert.deepEqual([sessionId, resume], [ID, "resume-1"]);
});

test("after three failures that nobody explains a ticket is asked for", () => {
  const machine = new Machine();
  for (let k = 0; k < UNEXPLAINED; k++) {
    assert.equal(machine.last("dial")!.ticket, false);
    machine.close(machine.dialled);
    machine.advance(LONGEST_MS);
  }
  assert.equal(machine.last("dial")!.ticket, true);
});

test("where only tickets get through one more failure is enough, elsewhere three", () => {
  const machine = new Machine();
  const fail = (): void => {
    machine.close(machine.dialled);
    machine.advance(LONGEST_MS);
  };
  for (let k = 0; k < UNEXPLAINED; k++) fail();
  machine.close(machine.welcome());
  machine.advance(LONGEST_MS);
  assert.equal(machine.last("dial")!.ticket, false);
  fail();
  assert.equal(machine.last("dial")!.ticket, true);
});

test("a ticket refused for now waits as long as the server says, and the next dial is a plain one", () => {
  const machine = new Machine();
  for (let k = 0; k < UNEXPLAINED; k++) {
    machine.close(machine.dialled);
    machine.advance(LONGEST_MS);
  }
  const dials = machine.of("dial").length;
  machine.do((session, now) =>
    session.dialFailed(machine.dialled, { why: "503", blame: "passing", retryAfterMs: 30_000 }, now),
  );
  machine.advance(30_000);
  assert.equal(machine.of("dial").length, dials);
  machine.advance(LONGEST_MS);
  assert.equal(machine.last("dial")!.ticket, false);
});

test("a refused token is replaced twice, then the session stops; one that cannot be replaced stops at once", () => {
  const tries = (canRenew: boolean): number => {
    const machine = new Machine({ canRenew });
    machine.send();
    while (machine.session.connector.stopped === undefined) {
      machine.do((session, now) => session.dialFailed(machine.dialled, { why: "401", blame: "token" }, now));
      machine.advance(LONGEST_MS);
    }
    assert.equal(machine.session.connector.stopped.code, "UNAUTHENTICATED");
    assert.equal(machine.last("refused")?.error.code, "UNAUTHENTICATED");
    assert.equal(states(machine).at(-1), "closed");
    return machine.of("dial").length;
  };
  assert.deepEqual([tries(true), tries(false)], [3, 1]);
});

test("a failing token callback is tried again; one that says logged out ends it", () => {
  const machine = new Machine();
  machine.do((session, now) =>
    session.dialFailed(machine.dialled, { why: "offline", blame: "passing" }, now),
  );
  machine.advance(200);
  assert.equal(machine.of("dial").length, 2);
  machine.do((session, now) =>
    session.dialFailed(machine.dialled, { why: "logged out", blame: "user" }, now),
  );
  assert.equal(machine.session.connector.stopped?.code, "UNAUTHENTICATED");
});

test("close codes of no return stop everything and say why", () => {
  const { machine, socket } = Machine.answering("a");
  machine.send("r-2");
  machine.close(socket, 4502);
  assert.deepEqual(machine.last("state")?.state, { kind: "closed", code: 4502, reason: "", final: true });
  assert.equal(machine.events.at(-1), "error");
  const refused = machine.last("refused");
  assert.deepEqual(
    [refused?.requestId, refused?.error.code, refused?.error.closeCode],
    ["r-2", "REFUSED", 4502],
  );
  assert.equal(machine.session.wakeAt(), Infinity);
});

test("a heartbeat goes out every interval, and its answer tells the round trip", () => {
  const machine = new Machine();
  const socket = machine.welcome();
  machine.advance(20_000);
  const beat = machine.sent("HEARTBEAT").at(-1);
  assert.equal(machine.sent("HEARTBEAT").length, 1);
  machine.advance(12);
  machine.frame(socket, "HEARTBEAT_ACK", { t: beat?.frame.t });
  assert.equal(machine.session.connector.rttMs, 12);
});

test("silence of one and a half heartbeats means reconnect, a frame of any kind does not", () => {
  const machine = new Machine();
  const socket = machine.welcome();
  machine.advance(29_000);
  machine.frame(socket, "SOMETHING_NEW", {});
  machine.advance(29_999);
  assert.deepEqual(machine.of("abandon"), []);
  machine.advance(1);
  assert.deepEqual(machine.of("abandon"), [{ kind: "abandon", socket }]);
  assert.deepEqual(states(machine).slice(-2), ["closed", "reconnecting"]);
});

test("a timer that was held back asks before it believes that the peer is gone, once", () => {
  const machine = new Machine();
  const socket = machine.welcome();
  machine.now += 60_000;
  machine.tick();
  assert.deepEqual([machine.of("abandon").length, machine.sent("HEARTBEAT").length], [0, 1]);
  machine.frame(socket, "HEARTBEAT_ACK", {});
  machine.now += 60_000;
  machine.tick();
  assert.equal(machine.of("abandon").length, 0, "it answered");
  machine.now += 60_000;
  machine.tick();
  assert.equal(machine.of("abandon").length, 1, "it did not answer");
});

test("each step of a dial has its time", () => {
  const machine = new Machine();
  const no = machine.dialled;
  machine.do((session, now) => session.connector.opening(no, now));
  machine.advance(STEP_MS - 1);
  machine.do((session, now) => session.connector.opened(no, now));
  machine.advance(STEP_MS - 1);
  assert.deepEqual(machine.of("abandon"), []);
  machine.advance(1);
  assert.deepEqual(machine.of("abandon"), [{ kind: "abandon", socket: no }]);
});

test("a session that may give up does, and one that may not never does", () => {
  for (const giveUpAfterMs of [5_000, undefined]) {
    const machine = new Machine({ giveUpAfterMs });
    machine.send();
    for (let k = 0; k < 100 && machine.session.connector.stopped === undefined; k++) {
      machine.close(machine.dialled);
      machine.advance(1_000);
    }
    assert.equal(
      machine.session.connector.stopped?.code,
      giveUpAfterMs === undefined ? undefined : "UNREACHABLE",
    );
  }
});

test("TOKEN_EXPIRING asks for a new token in place, and 4001 for a new socket", () => {
  const { machine, socket } = Machine.answering("a");
  machine.frame(socket, "TOKEN_EXPIRING", { expiresAt: "2026-01-01T00:00:00Z" });
  assert.deepEqual(machine.of("authenticate"), [{ kind: "authenticate", socket }]);
  machine.welcome(socket);
  assert.equal(
    states(machine).filter((kind) => kind === "open").length,
    1,
    "WELCOME again is no new connection",
  );
  assert.equal(machine.sent("RECONNECT").length, 0);
  machine.close(socket, 4001);
  machine.advance(200);
  assert.equal(machine.of("dial").length, 2);
});

test("a stable socket that dies while its successor is dialled leaves the rest to it", () => {
  const { machine, socket: old } = Machine.answering("a");
  machine.frame(old, "GOAWAY", { reason: "drain", deadlineMs: 5_000, reconnectAfterMs: 0, resumeToken: "r" });
  machine.tick();
  const next = machine.dialled;
  machine.close(old, 4000);
  machine.advance(50);
  machine.welcome(next);
  assert.equal(machine.sent("RECONNECT").at(-1)?.socket, next);
  assert.deepEqual(states(machine), ["connecting", "open", "closed", "connecting", "open"]);
});
