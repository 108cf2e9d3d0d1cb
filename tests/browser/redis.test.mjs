// Nodes as processes over a Redis that is emptied under a live answer: owners write it back.
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";
import { after, before, test } from "node:test";
import { Browser, openPage } from "./browser.mjs";
import { ask, assertClean, assertStored, ended, grows } from "./chat.mjs";
import { Playground } from "./playground.mjs";

const installed = (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, "redis-server")));
let playground, browser;
before(async () => {
  if (installed) [playground, browser] = await Promise.all([Playground.start({ STORES: "redis", CHAT_DEV_NODES: "2" }), Browser.start()]);
});
after(async () => {
  await browser?.stop();
  await playground?.stop();
});

test("the store is emptied and paused in the middle, and nothing is lost", { skip: installed ? false : "redis-server is not installed" }, async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  const store = page.getByRole("group", { name: "Redis" });
  await ask(page, "[sim text=essay rate=50] What if the log is gone?");
  await grows(page, 200);
  await store.getByRole("button", { name: "Empty it" }).click();
  await grows(page, 800);
  await store.getByRole("button", { name: "Cut hints" }).click();
  await ended(page);
  const stored = await assertStored(page, playground);
  await assertClean(page, stored.totalChunks);
  assert.match(await page.locator(".verdict-under").innerText(), /Through 2 store faults/);
  await context.close();
});
