// A second tab follows by link, a reload goes on from where it was, EventSource resumes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, openPage } from "./browser.mjs";
import { answer, ask, assertClean, assertStored, copied, ended, grows, messageId, textOf } from "./chat.mjs";
import { eventually, Playground } from "./playground.mjs";

let playground, browser;
before(async () => {
  [playground, browser] = await Promise.all([Playground.start(), Browser.start()]);
});
after(async () => {
  await browser?.stop();
  await playground?.stop();
});

test("a link to a message is followed live in a second tab, and by a reader whose browser knows nothing of it", async () => {
  const context = await browser.context();
  const stranger = await browser.context();
  const page = await openPage(context, playground.url);
  await ask(page, "[sim text=essay rate=40 pause=150:20000] Follow me");
  await grows(page, 100);
  await answer(page).getByRole("button", { name: "Copy link to this answer" }).click();
  await answer(page).getByRole("button", { name: "Copied" }).waitFor();
  const link = await page.evaluate(() => navigator.clipboard.readText());
  assert.match(link, /#\/m\/[0-9a-f-]{36}$/);
  const second = await openPage(context, link);
  const third = await openPage(stranger, link);
  for (const tab of [second, third]) {
    await grows(tab, 100);
    assert.equal(await answer(tab).evaluate((element) => element.classList.contains("live")), true, "it still grows");
    assert.equal(await messageId(tab), await messageId(page));
  }
  assert.equal(await second.locator(".question").count(), 1, "this browser knows the question");
  assert.equal(await third.locator(".question").count(), 0);
  for (const tab of [page, second, third]) await ended(tab);
  for (const tab of [page, second, third]) {
    await tab.bringToFront();
    const stored = await assertStored(tab, playground);
    await assertClean(tab, stored.totalChunks);
  }
  await ask(second, "[sim tokens=40 rate=100] Asked elsewhere");
  await page.locator(".question").filter({ hasText: "Asked elsewhere" }).waitFor();
  for (const tab of [page, second]) await tab.getByText("same as stored").nth(1).waitFor();
  assert.equal(await messageId(page), await messageId(second), "one answer for both tabs");
  await context.close();
  await stranger.close();
});

test("a reload in the middle goes on from the cursor, with epoch and digest", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  const sent = [];
  page.on("websocket", (socket) => socket.on("framesent", ({ payload }) => sent.push(JSON.parse(payload))));
  await ask(page, "[sim text=essay rate=45] Reload me");
  await grows(page, 300);
  const before = await textOf(page);
  sent.length = 0;
  await page.reload();
  await eventually(async () => (await textOf(page)).length >= before.length, "what was there is there again");
  const reconnect = await eventually(() => sent.find((frame) => frame.type === "RECONNECT"), "it reconnects");
  assert.ok(reconnect.lastChunkIndex > 20, JSON.stringify(reconnect));
  assert.ok(reconnect.epoch >= 1 && /^[0-9a-f]{8}$/.test(reconnect.digest), JSON.stringify(reconnect));
  assert.equal(reconnect.messageId, await messageId(page));
  await ended(page);
  await assertStored(page, playground);
  await assertClean(page, 1);
  // An ended one is read again as a whole.
  const whole = await copied(page);
  await page.reload();
  await ended(page);
  assert.equal(await copied(page), whole);
  await context.close();
});

test("EventSource resumes by itself when its node is killed and started, and elsewhere from its last id", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await ask(page, "[sim tokens=500 rate=50 seed=3] Over SSE");
  const id = await messageId(page);
  const owner = await eventually(() => playground.writer(id), "somebody writes");
  const [node, other] = (await playground.nodes()).filter((one) => one.name !== owner);
  const token = await playground.token();
  // In the page, as a script of somebody's would do it.
  await page.evaluate(({ base, id, token }) => {
    const seen = (window.seen = { events: [], end: null, lastId: "", opened: 0 });
    window.listen = (base, after) => {
      window.source?.close();
      const source = (window.source = new EventSource(`${base}/api/v1/messages/${id}/stream?token=${token}${after ? `&after=${after}` : ""}`));
      source.onopen = () => seen.opened++;
      source.addEventListener("chunk", (event) => {
        seen.lastId = event.lastEventId;
        seen.events.push(JSON.parse(event.data));
      });
      source.addEventListener("complete", (event) => {
        seen.end = JSON.parse(event.data);
        source.close();
      });
    };
    window.listen(base, "");
  }, { base: node.baseUrl, id, token });
  const seen = () => page.evaluate(() => ({ count: window.seen.events.length, opened: window.seen.opened, end: window.seen.end, lastId: window.seen.lastId }));
  await eventually(async () => (await seen()).count > 50, "events come");
  await playground.do(node.name, "kill");
  const atKill = (await seen()).count;
  await playground.do(node.name, "start");
  await eventually(async () => (await seen()).opened === 2, "the browser opened it again");
  await eventually(async () => (await seen()).count > atKill + 30, "it goes on");
  await playground.do(node.name, "kill");
  await page.evaluate(({ base, after }) => window.listen(base, after), { base: other.baseUrl, after: (await seen()).lastId });
  const { end } = await eventually(async () => (await seen()).end && seen(), "the end", 30_000);
  const events = await page.evaluate(() => window.seen.events);
  assert.deepEqual(events.map((one) => one.index), Array.from({ length: 500 }, (_, at) => at), "each once, in order");
  assert.equal(end.totalChunks, 500);
  const stored = await playground.stored(id);
  assert.equal(events.map((one) => one.content).join(""), stored.content);
  await context.close();
  await playground.mend();
});
