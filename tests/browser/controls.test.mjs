// Stop, regenerate, conversations, keys, scrolling, narrow and dark.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Browser, openPage } from "./browser.mjs";
import { answer, ask, assertClean, assertStored, ended, grows, messageId, textOf } from "./chat.mjs";
import { eventually, Playground } from "./playground.mjs";

let playground, browser;
before(async () => {
  [playground, browser] = await Promise.all([Playground.start({ CHAT_DEV_NODES: "2" }), Browser.start()]);
});
after(async () => {
  await browser?.stop();
  await playground?.stop();
});

const QUICK = "[sim tokens=60 rate=0 seed=2]";

test("Stop ends an answer early, Regenerate gives another one, and both can be looked at", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await ask(page, "[sim text=essay rate=30] Stop me");
  await grows(page, 100);
  const first = await messageId(page);
  await page.getByRole("button", { name: "Stop the answer" }).click();
  await answer(page).getByText("Stopped.").waitFor();
  await ended(page);
  assert.equal((await playground.stored(first)).status, "cancelled");
  assert.equal(await page.getByRole("button", { name: "Stop the answer" }).isVisible(), false);
  await answer(page).getByRole("button", { name: "Regenerate" }).click();
  await eventually(async () => ![null, first].includes(await answer(page).getAttribute("data-message")), "another answer");
  await grows(page, 60);
  await page.keyboard.press("Escape");
  await answer(page).getByText("Stopped.").waitFor();
  await answer(page).getByText("2 / 2").waitFor();
  await answer(page).getByRole("button", { name: "Previous answer" }).click();
  await answer(page).getByText("1 / 2").waitFor();
  assert.equal(await messageId(page), first);
  await assertClean(page, 10);
  await context.close();
});

test("conversations are made, renamed, opened, deleted and brought back; a reload finds them", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  const list = page.getByRole("list", { name: "Conversations" });
  await ask(page, `${QUICK} First question`);
  await ended(page);
  await page.getByRole("button", { name: "New conversation" }).click();
  await page.getByText("An answer that outlives its server").waitFor();
  await ask(page, `${QUICK} Second question`);
  await ended(page);
  await list.getByRole("button", { name: "First question" }).hover();
  await list.getByRole("listitem").filter({ hasText: "First question" }).getByRole("button", { name: "Rename" }).click();
  await page.getByLabel("Title").fill("Called otherwise");
  await page.keyboard.press("Enter");
  await list.getByRole("button", { name: "Called otherwise" }).click();
  await page.locator(".question").filter({ hasText: "First question" }).waitFor();
  await ended(page);
  await page.reload();
  await page.locator(".question").filter({ hasText: "First question" }).waitFor();
  await ended(page);
  const item = list.getByRole("listitem").filter({ hasText: "Second question" });
  await item.hover();
  await item.getByRole("button", { name: "Delete" }).click();
  await item.waitFor({ state: "detached" });
  await page.getByRole("button", { name: "Undo" }).click();
  await item.waitFor();
  await context.close();
});

test("everything that matters goes by keyboard alone", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await page.getByText("An answer that outlives its server").waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the message field");
  await page.keyboard.press("Enter");
  await page.keyboard.type("[sim text=essay rate=40] one");
  await page.keyboard.press("Shift+Enter");
  await page.keyboard.type("two");
  assert.equal(await page.getByLabel("Your message").inputValue(), "[sim text=essay rate=40] one\ntwo");
  await page.keyboard.press("Enter");
  await grows(page, 60);
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt", "the focus stays where the next question goes");
  await page.keyboard.press("Escape");
  await answer(page).getByText("Stopped.").waitFor();
  // Focus is visible, and the nodes' buttons can be reached.
  const goTo = async (label, key) => {
    for (let at = 0; at < 40; at++) {
      await page.keyboard.press(key);
      await assertRing();
      if ((await page.evaluate(() => document.activeElement.getAttribute("aria-label"))) === label) return;
    }
    assert.fail(`${label} is not reached by ${key}`);
  };
  const assertRing = async () => {
    const ring = await page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return document.activeElement.matches("textarea, body") || (outlineStyle !== "none" && parseFloat(outlineWidth) >= 2);
    });
    assert.ok(ring, await page.evaluate(() => document.activeElement.outerHTML.slice(0, 200)));
  };
  await goTo("Copy answer", "Shift+Tab");
  await goTo("Kill node-1", "Tab");
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keys" }).waitFor();
  await page.keyboard.press("Escape");
  await page.getByRole("dialog", { name: "Keys" }).waitFor({ state: "hidden" });
  await page.keyboard.press("n");
  await page.getByText("An answer that outlives its server").waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
  assert.deepEqual(page.problems, []);
  await context.close();
});

test("the end is followed until the reader scrolls up, and a button leads back", async () => {
  const context = await browser.context({ viewport: { width: 1280, height: 560 } });
  const page = await openPage(context, playground.url);
  await ask(page, "[sim text=essay rate=50] Scroll");
  const place = () => page.locator(".scroller").evaluate((one) => ({ top: one.scrollTop, left: one.scrollHeight - one.scrollTop - one.clientHeight }));
  await eventually(async () => (await place()).top > 200, "it follows");
  assert.ok((await place()).left < 60);
  await page.locator(".scroller").hover();
  await page.mouse.wheel(0, -250);
  await page.getByRole("button", { name: "Jump to latest" }).waitFor();
  const { top } = await place();
  const before = (await textOf(page)).length;
  await eventually(async () => (await textOf(page)).length > before + 200, "it grows on");
  assert.ok(Math.abs((await place()).top - top) < 4, "the reader's place stays");
  await page.getByRole("button", { name: "Jump to latest" }).click();
  await eventually(async () => (await place()).left < 60, "it is at the end again");
  await ended(page);
  assert.ok((await place()).left < 60, "and stayed there");
  await context.close();
});

test("a narrow screen has drawers, and the chat all of the width", async () => {
  const context = await browser.context({ viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true });
  const page = await openPage(context, playground.url);
  await ask(page, `${QUICK} Narrow`);
  await ended(page);
  const wide = await page.evaluate(() =>
    ["header", ".tools", ".scroller", ".question", ".answer", ".composer", ".composer .send"].filter((name) => {
      const { left, right, width } = document.querySelector(name).getBoundingClientRect();
      return width === 0 || left < 0 || right > innerWidth;
    }));
  assert.deepEqual(wide, [], "nothing is wider than the screen");
  const list = page.getByRole("navigation", { name: "Conversations" });
  assert.equal(await list.evaluate((one) => one.inert), true, "a closed drawer is out of the way");
  await page.getByRole("button", { name: "Conversations", exact: true }).tap();
  await list.getByRole("button", { name: "Narrow" }).waitFor();
  await eventually(async () => (await list.boundingBox()).x === 0, "the drawer is open");
  assert.equal(await page.locator("main").evaluate((one) => one.inert), true, "what it covers is out of the way");
  await page.keyboard.press("Escape");
  await eventually(() => list.evaluate((one) => one.inert), "Escape closes it");
  await page.getByRole("button", { name: /\d+ chunks, 0 lost/ }).tap();
  await page.getByRole("button", { name: "Kill node-1", exact: true }).waitFor();
  const covered = await page.evaluate(() => {
    const right = Math.max(...[...document.querySelectorAll(".node")].map((node) => node.getBoundingClientRect().right));
    return right > document.querySelector(".end.log").getBoundingClientRect().left;
  });
  assert.equal(covered, false, "the nodes leave room for the log");
  await page.getByRole("button", { name: "Close", exact: true }).tap();
  await assertStored(page, playground);
  await assertClean(page, 60);
  await context.close();
});

test("colours follow the system until the reader chooses, and motion is calm where asked for", async () => {
  const context = await browser.context({ colorScheme: "dark", reducedMotion: "reduce" });
  const page = await openPage(context, playground.url);
  await page.getByText("An answer that outlives its server").waitFor();
  const brightness = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((sum, one) => sum + Number(one), 0));
  assert.ok((await brightness()) < 150);
  await page.getByRole("button", { name: "Light colours" }).click();
  assert.ok((await brightness()) > 600);
  await page.reload();
  await page.getByText("An answer that outlives its server").waitFor();
  assert.ok((await brightness()) > 600, "the choice is kept");
  const longest = await page.evaluate(() => Math.max(0, ...document.getAnimations().map((one) => Number(one.effect.getComputedTiming().activeDuration))));
  assert.ok(longest < 100, `an animation of ${longest} ms`);
  await context.close();
});

test("while no node serves a banner counts down, and the answer goes on when one does", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await ask(page, "[sim text=essay rate=50] Where is everybody?");
  await grows(page, 200);
  for (const { name } of await playground.nodes()) await playground.do(name, "kill");
  await page.getByText(/The connection is away\. Next try in \d+ s/).waitFor();
  await page.locator(".banner").getByRole("button", { name: "Try now" }).waitFor();
  await playground.mend();
  await page.getByText("The connection is away").waitFor({ state: "hidden" });
  await ended(page);
  const stored = await assertStored(page, playground);
  await assertClean(page, stored.totalChunks);
  assert.match(await page.locator(".verdict-under").innerText(), /Through 2 kills/, "what others break is counted too");
  await context.close();
});

test("a second conversation runs beside the first, and both are whole", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await ask(page, "[sim text=essay rate=60] Long one");
  await grows(page, 100);
  await page.getByRole("button", { name: "New conversation" }).click();
  await ask(page, `${QUICK} Short one`);
  await ended(page);
  await assertStored(page, playground);
  const list = page.getByRole("list", { name: "Conversations" });
  await list.getByRole("button", { name: "Long one" }).click();
  await ended(page);
  const stored = await assertStored(page, playground);
  await assertClean(page, stored.totalChunks + 60);
  await context.close();
});
