// The timeline: kill → reconnect → takeover → text, and what touches nobody.

import assert from "node:assert/strict";
import test from "node:test";
import { Incidents, type Fault } from "../src/fleet/incidents.js";

const fault = (change: Partial<Fault> = {}): Fault => ({ kind: "kill", target: "node-1", at: 1_000, reading: false, writing: new Map(), ...change });
const steps = (incidents: Incidents) => incidents.list[0]?.steps.map(({ name, ms }) => [name, ms]);

test("a killed writer and reader: all four steps, and how long it was silent", () => {
  const incidents = new Incidents();
  incidents.notice({ type: "chunk", message: "m", epoch: 1, at: 990 });
  incidents.begin(fault({ reading: true, writing: new Map([["m", 1]]) }));
  incidents.notice({ type: "left", node: "node-1", at: 1_010 });
  incidents.notice({ type: "connected", node: "node-2", at: 1_150 });
  // What the old writer had still got into the log.
  incidents.notice({ type: "chunk", message: "m", epoch: 1, at: 1_160 });
  incidents.notice({ type: "epoch", message: "m", epoch: 2, at: 5_000 });
  assert.equal(incidents.list[0]?.state, "open");
  incidents.notice({ type: "chunk", message: "m", epoch: 2, at: 5_040 });
  assert.deepEqual(steps(incidents), [["left", 10], ["connected", 150], ["takeover", 4_000], ["text", 4_040]]);
  assert.equal(incidents.list[0]?.silence, 5_040 - 1_160);
  assert.equal(incidents.list[0]?.state, "over");
  incidents.name("m", 2, "node-2");
  assert.equal(incidents.list[0]?.steps[2]?.node, "node-2");
});

test("a drained reader: the text goes on after the move, whoever writes", () => {
  const incidents = new Incidents();
  incidents.begin(fault({ kind: "drain", reading: true }));
  incidents.notice({ type: "left", node: "node-1", at: 1_020 });
  incidents.notice({ type: "chunk", message: "m", epoch: 1, at: 1_030 });
  incidents.notice({ type: "connected", node: "node-3", at: 1_100 });
  incidents.notice({ type: "chunk", message: "m", epoch: 1, at: 1_120 });
  assert.deepEqual(steps(incidents), [["left", 20], ["connected", 100], ["text", 120]]);
  assert.equal(incidents.list[0]?.silence, 90);
});

test("a takeover that is first seen in a chunk counts", () => {
  const incidents = new Incidents();
  incidents.begin(fault({ writing: new Map([["m", 3]]) }));
  incidents.notice({ type: "chunk", message: "other", epoch: 9, at: 1_500 });
  incidents.notice({ type: "chunk", message: "m", epoch: 4, at: 2_000 });
  assert.deepEqual(steps(incidents), [["takeover", 1_000], ["text", 1_000]]);
});

test("where nothing of the reader's was, nothing is measured", () => {
  const incidents = new Incidents();
  incidents.begin(fault());
  assert.equal(incidents.list[0]?.state, "unnoticed");
  assert.equal(incidents.notice({ type: "chunk", message: "m", epoch: 1, at: 2_000 }), false);
});

test("an answer that ends meanwhile ends the wait, and so does time", () => {
  const incidents = new Incidents();
  incidents.begin(fault({ writing: new Map([["m", 1]]) }));
  incidents.notice({ type: "ended", message: "other", at: 2_000 });
  assert.equal(incidents.list[0]?.state, "open");
  incidents.notice({ type: "ended", message: "m", at: 2_500 });
  assert.equal(incidents.list[0]?.state, "over");
  incidents.begin(fault({ reading: true }));
  assert.equal(incidents.sweep(30_000), false);
  assert.equal(incidents.sweep(60_000), true);
});
