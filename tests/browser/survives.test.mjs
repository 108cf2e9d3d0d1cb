// An answer outlives the node that writes it, a drain, and random chaos; the page counts all of it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, openPage } from "./browser.mjs";
import { answer, ask, assertClean, assertStored, ended, grows, messageId, reading, textOf, verdict } from "./chat.mjs";
import { eventually, Playground } from "./playground.mjs";

let playground, browser;
before(async () => {
  [playground, browser] = await Promise.all([Playground.start(), Browser.start()]);
});
after(async () => {
  await browser?.stop();
  await playground?.stop();
});

test("kill the owner in the middle, then drain another node: the text is complete and the stored one", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await page.getByText("An answer that outlives its server").waitFor();
  await ask(page, "[sim text=essay rate=60] What if you die now?");
  await grows(page, 300);
  const id = await messageId(page);
  const owner = await eventually(() => playground.writer(id), "somebody writes");
  const before = await textOf(page);
  await page.getByRole("button", { name: `Kill ${owner}`, exact: true }).click();
  await page.getByText(`${owner} is dead; another node takes over`).waitFor();
  const next = await eventually(async () => {
    const writer = await playground.writer(id);
    return writer !== owner && writer;
  }, "another node writes");
  await eventually(async () => (await textOf(page)).length > before.length + 100, "the text goes on");
  await page.getByRole("button", { name: `Drain ${next}`, exact: true }).click();
  await ended(page);
  const stored = await assertStored(page, playground);
  await assertClean(page, stored.totalChunks);
  assert.match(await page.locator(".verdict-under").innerText(), /Through 1 kill, 1 drain\. 1 answer/);
  const kill = page.getByRole("listitem").filter({ hasText: `${owner} killed` });
  await kill.getByText(/taken over by node-\d/).waitFor();
  await kill.getByText(/silent for \d/).waitFor();
  assert.match(await answer(page).locator(".ribbon-words").innerText(), new RegExp(`written by ${owner} → node-`));
  await context.close();
  await playground.mend();
});

test("chaos breaks nodes until it is stopped, mends them, and nothing is lost", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await page.getByRole("button", { name: "Unleash chaos" }).click();
  await page.locator(".incident").nth(1).waitFor({ timeout: 30_000 });
  await page.getByRole("button", { name: "Stop the chaos" }).click();
  await eventually(async () => (await playground.nodes()).every((node) => node.phase === "serving"), "all nodes serve again", 30_000);
  await page.keyboard.press("Escape");
  await ended(page);
  await assertStored(page, playground);
  const { chunks } = await verdict(page);
  await assertClean(page, 1);
  assert.match(await page.locator(".verdict-under").innerText(), /Through \d+ (kill|drain|pause)/, `${chunks} chunks`);
  await context.close();
});

test("the wires show where the page reads, and a kill of that node alone moves the page", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  const from = await reading(page);
  await page.getByRole("button", { name: `Kill ${from}`, exact: true }).click();
  await eventually(async () => (await reading(page)) !== from, "it reads from another node");
  await page.getByText("reconnected to node-").first().waitFor();
  assert.equal(await page.locator(`[data-node="${from}"] .phase`).innerText(), "dead");
  await page.getByRole("button", { name: `Start ${from}`, exact: true }).click();
  await page.locator(`[data-node="${from}"][data-phase="serving"]`).waitFor();
  await context.close();
});
