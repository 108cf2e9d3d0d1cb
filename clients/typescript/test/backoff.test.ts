import assert from "node:assert/strict";
import { test } from "node:test";
import { Backoff, FIRST_MS, LONGEST_MS, STABLE_MS } from "../src/backoff.js";

test("ceilings double up to the longest", () => {
  const backoff = new Backoff(() => 1);
  const ceilings = Array.from({ length: 40 }, () => backoff.failed(0));
  assert.deepEqual(ceilings.slice(0, 4), [FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS, 8 * FIRST_MS]);
  assert.equal(ceilings.at(-1), LONGEST_MS);
});

test("jitter is full: any delay down to none", () => {
  assert.equal(new Backoff(() => 0).failed(0), 0);
  const half = new Backoff(() => 0.5);
  half.failed(0);
  assert.equal(half.failed(0), FIRST_MS);
});

test("only a stable connection is forgiven", () => {
  const backoff = new Backoff(Math.random);
  for (let k = 0; k < 5; k++) backoff.failed(STABLE_MS - 1);
  assert.equal(backoff.failures, 5);
  backoff.failed(STABLE_MS);
  assert.equal(backoff.failures, 1);
});
