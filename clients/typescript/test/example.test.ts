// The example of the README, as a process of its own, while its node is killed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { Playground } from "./playground.js";

const PACKAGE = new URL("../..", import.meta.url);

test(
  "the example prints the whole answer over the death of its node, and ends",
  { timeout: 45_000 },
  async (t) => {
    const cluster = await Playground.start();
    t.after(() => cluster.stop());
    const child = spawn(process.execPath, ["examples/chat.mjs", "[sim tokens=100 rate=50] hi"], {
      cwd: fileURLToPath(PACKAGE),
      env: { ...process.env, CHAT_PLAYGROUND: cluster.base },
    });
    let [text, said, chunks] = ["", "", 0];
    child.stderr.on("data", (data) => (said += String(data)));
    const halfway = new Promise<void>((resolve) => {
      child.stdout.on("data", (data) => {
        text += String(data);
        if ((chunks += 1) === 15) resolve();
      });
    });
    await halfway;
    const [call] = await cluster.calls();
    await cluster.command(call!.node, "kill");
    const [code] = (await once(child, "exit")) as [number];
    assert.equal(code, 0, said);
    assert.equal(text, (await cluster.message(call!.messageId)).content);
    assert.match(
      said,
      /\[open node-\d\]\n\[closed\]\n\[reconnecting\]\n[^]*\[completed, 100 chunks, digest ok\]/,
    );
  },
);
