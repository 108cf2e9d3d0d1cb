// Makes the pictures of docs/screenshots again: a running playground, broken on purpose.
import { mkdir, stat } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { Browser, openPage } from "./browser.mjs";
import { answer, ended, grows, messageId } from "./chat.mjs";
import { eventually, Playground } from "./playground.mjs";

const folder = join(dirname(fileURLToPath(import.meta.url)), "../../docs/screenshots");
const MAX_BYTES = 250_000;
/** Chunks until the essay has come to its table. */
const FAR = 1_100;

async function shot(page, name) {
  const path = join(folder, `${name}.png`);
  // The caret and what blinks would differ each time.
  await page.screenshot({ path, animations: "disabled", caret: "hide" });
  const { size } = await stat(path);
  if (size > MAX_BYTES) throw new Error(`${name}.png has ${size} bytes`);
  console.log(`${name}.png ${Math.round(size / 1024)} KB`);
}

const start = (page) => page.getByRole("button", { name: /^Why does nothing get lost/ }).click();

/** An answer whose writer was killed, far enough to be worth a look. */
async function survived(page, playground) {
  await start(page);
  await grows(page, 420);
  const owner = await eventually(async () => playground.writer(await messageId(page)), "somebody writes");
  await page.getByRole("button", { name: `Kill ${owner}`, exact: true }).click();
  await eventually(async () => (await playground.writer(await messageId(page))) !== owner, "another one writes");
  await grows(page, FAR);
}

async function main() {
  await mkdir(folder, { recursive: true });
  const playground = await Playground.start();
  const browser = await Browser.start();
  try {
    const light = await browser.context();
    const page = await openPage(light, playground.url);
    await page.getByText("reads to you").waitFor();
    await shot(page, "welcome");
    await survived(page, playground);
    await shot(page, "light");
    await ended(page);
    await playground.mend();

    const dark = await browser.context({ colorScheme: "dark" });
    const night = await openPage(dark, playground.url);
    await night.getByText("reads to you").waitFor();
    await survived(night, playground);
    await shot(night, "dark");
    await ended(night);
    await playground.mend();

    const storm = await openPage(await browser.context(), playground.url);
    await storm.getByRole("button", { name: "Unleash chaos" }).click();
    await storm.locator('.incident[data-state="over"] .text').nth(1).waitFor({ timeout: 90_000 });
    await grows(storm, 600);
    await shot(storm, "chaos");
    await storm.getByRole("button", { name: "Stop the chaos" }).click();
    await playground.mend();

    const narrow = await browser.context({ viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true });
    const phone = await openPage(narrow, playground.url);
    await start(phone);
    await grows(phone, 420);
    await shot(phone, "narrow");
    await phone.getByRole("button", { name: /chunks, 0 lost/ }).click();
    await phone.getByRole("button", { name: "Kill node-1", exact: true }).waitFor();
    await phone.waitForTimeout(400);
    await shot(phone, "narrow-fleet");
    await answer(phone).waitFor({ state: "attached" });
  } finally {
    await browser.stop();
    await playground.stop();
  }
}

await main();
