// One browser for each test file, with its own folder; pages that fail a test when they say an error.
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const PROGRAMS = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const ARGUMENTS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
  "--disable-background-networking", "--disable-component-update", "--disable-sync",
];
const PATIENCE_MS = 15_000;

export class Browser {
  /** Contexts share nothing, tabs of one share what tabs share. */
  static async start() {
    const executablePath = PROGRAMS.find((path) => path && existsSync(path));
    if (!executablePath) throw new Error("no Chromium; on Debian: apt-get install -y chromium");
    const folder = await mkdtemp(join(tmpdir(), "chat-browser-"));
    const browser = await chromium.launch({ executablePath, args: ARGUMENTS, env: { ...process.env, HOME: folder } });
    return new Browser(browser, folder);
  }

  constructor(browser, folder) {
    this.browser = browser;
    this.folder = folder;
  }

  async context(options = {}) {
    const context = await this.browser.newContext({ viewport: { width: 1440, height: 900 }, colorScheme: "light", ...options });
    context.setDefaultTimeout(PATIENCE_MS);
    await context.grantPermissions(["clipboard-read", "clipboard-write"]);
    await fromFolder(context);
    return context;
  }

  async stop() {
    await this.browser.close();
    await rm(this.folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

/** PAGE_FROM: files of a build that is not embedded yet, for whoever works on the page. */
async function fromFolder(context) {
  const folder = process.env.PAGE_FROM;
  if (!folder) return;
  const types = { js: "text/javascript", css: "text/css" };
  await context.route(/\/page\/page\.(js|css)$/, async (route) => {
    const name = new URL(route.request().url()).pathname.split("/").at(-1);
    await route.fulfill({ body: await readFile(join(folder, name)), contentType: types[name.split(".")[1]] });
  });
}

/** A tab. What it reports as an error is collected; a refused connection to a dead node is none. */
export async function openPage(context, url) {
  const page = await context.newPage();
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(String(error)));
  page.on("console", (message) => {
    const text = message.text();
    if (message.type() === "error" && !/WebSocket connection|ERR_CONNECTION|Failed to load resource/.test(text)) page.problems.push(text);
  });
  await page.goto(url);
  return page;
}
