import assert from "node:assert/strict";
import { test } from "node:test";
import { reconnects } from "../src/close.js";

test("a server or a network that went away is come back to", () => {
  for (const code of [1001, 1005, 1006, 1011, 1012, 1013, 4000, 4001, 4002, 4003, 4499])
    assert.ok(reconnects(code), `${code}`);
});

test("a server that will not have us is left alone", () => {
  for (const code of [1000, 1002, 1003, 1007, 1008, 1009, 1010, 4500, 4501, 4504, 4999])
    assert.ok(!reconnects(code), `${code}`);
});
