// Chaos leaves somebody who can go on, and mends what it broke.

import assert from "node:assert/strict";
import test from "node:test";
import { mend, next, pace, type ChaosNode } from "../src/fleet/chaos.js";

const node = (name: string, change: Partial<ChaosNode> = {}): ChaosNode => ({ name, phase: "serving", servingFor: 60_000, downFor: 0, writes: false, reads: false, ...change });
const dice = (...values: number[]) => () => values.shift() ?? 0.5;

test("it breaks where it hurts", () => {
  const nodes = [node("node-1"), node("node-2", { reads: true }), node("node-3", { writes: true })];
  assert.deepEqual(next(nodes, false, dice(0.1, 0, 0.1)), { do: "kill", node: "node-3" });
  assert.deepEqual(next(nodes, false, dice(0.7, 0, 0.6)), { do: "drain", node: "node-2" });
  assert.deepEqual(next(nodes, false, dice(0.95, 0, 0.9)), { do: "pause", node: "node-1", ms: 1_500 });
});

test("it never breaks the last one that can take over", () => {
  const young = { servingFor: 1_000 };
  for (const nodes of [
    [node("node-1")],
    [node("node-1"), node("node-2", { phase: "dead", downFor: 100, servingFor: 0 })],
    [node("node-1"), node("node-2", young), node("node-3", young)],
  ]) {
    for (let at = 0; at < 20; at++) assert.equal(next(nodes, false, Math.random), undefined);
  }
});

test("in long random runs somebody always serves", () => {
  let seed = 7;
  const random = () => ((seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) / 2 ** 31);
  let nodes = [node("node-1"), node("node-2"), node("node-3")];
  let broken = 0;
  for (let step = 0; step < 2_000; step++) {
    const act = next(nodes, false, random);
    if (act && act.do !== "start") broken++;
    const passed = pace(random);
    nodes = nodes.map((one) => {
      const aged = one.phase === "serving" ? { ...one, servingFor: one.servingFor + passed } : { ...one, downFor: one.downFor + passed };
      if (act?.node !== one.name || act.do === "pause") return aged;
      return act.do === "start" ? { ...one, phase: "serving" as const, servingFor: 0, downFor: 0 } : { ...one, phase: act.do === "kill" ? ("dead" as const) : ("done" as const), servingFor: 0, downFor: 0 };
    });
    assert.ok(nodes.some((one) => one.phase === "serving" && one.servingFor >= 1_000), `step ${step}`);
  }
  assert.ok(broken > 300, `${broken}`);
});

test("while a takeover is under way it only mends", () => {
  const nodes = [node("node-1"), node("node-2"), node("node-3", { phase: "dead", downFor: 9_000, servingFor: 0 })];
  assert.deepEqual(next(nodes, true, dice()), { do: "start", node: "node-3" });
  assert.equal(next(nodes.slice(0, 2), true, dice()), undefined);
});

test("its end starts everything again", () => {
  const nodes = [node("node-1"), node("node-2", { phase: "paused" }), node("node-3", { phase: "flushing" })];
  assert.deepEqual(mend(nodes), [{ do: "start", node: "node-2" }, { do: "start", node: "node-3" }]);
});
