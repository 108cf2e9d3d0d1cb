// The verdict turns red when something is wrong, hostile text stays text, tokens stay hidden.
import assert from "node:assert/strict";
import zlib from "node:zlib";
import { after, before, test } from "node:test";
import { Browser, openPage } from "./browser.mjs";
import { answer, ask, assertClean, grows, verdict } from "./chat.mjs";
import { fakeSocket, storeInstead } from "./fake_socket.mjs";
import { eventually, Playground } from "./playground.mjs";

let playground, browser;
before(async () => {
  [playground, browser] = await Promise.all([Playground.start({ CHAT_DEV_NODES: "1" }), Browser.start()]);
});
after(async () => {
  await browser?.stop();
  await playground?.stop();
});

const WORDS = Array.from({ length: 40 }, (_, at) => ["TEXT", `word${at} `]);
const text = (chunks) => chunks.filter(([type]) => type === "TEXT" || type === "CODE").map(([, content]) => content).join("");

/** CRC-32 by hand where Node has none yet (before 22.2). */
function digest(chunks) {
  const bytes = Buffer.from(chunks.map(([type, content]) => `${type}\x1f${content}\x1e`).join(""));
  if (zlib.crc32) return zlib.crc32(bytes).toString(16).padStart(8, "0");
  let crc = -1;
  for (const byte of bytes) {
    crc ^= byte;
    for (let k = 0; k < 8; k++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (~crc >>> 0).toString(16).padStart(8, "0");
}

async function faked(chunks, lie, stored = text(chunks)) {
  const context = await browser.context();
  await context.addInitScript(fakeSocket, { chunks, lie });
  await storeInstead(context, stored, chunks.length, digest(chunks));
  const page = await openPage(context, playground.url);
  await ask(page, "hello");
  return { context, page };
}

test("the truth is green", async () => {
  const { context, page } = await faked(WORDS, undefined);
  await answer(page).getByText("same as stored").waitFor();
  await assertClean(page, WORDS.length);
  await context.close();
});

for (const [lie, kind] of [["altered", "wrong"], ["skipped", "lost"], ["doubled", "twice"], ["short", "lost"]]) {
  test(`a server whose chunk is ${lie} turns the verdict red, though the client mends the text`, async () => {
    const { context, page } = await faked(WORDS, lie);
    await answer(page).getByText("same as stored").waitFor();
    await page.getByText("Something is wrong").waitFor();
    const seen = await verdict(page);
    assert.equal(seen.state, "bad");
    assert.ok(seen[kind] > 0, JSON.stringify(seen));
    assert.ok(seen.findings.length > 0, "it says what");
    await page.locator('.verdict-pill[data-verdict="bad"]').waitFor({ state: "attached" });
    await context.close();
  });
}

test("another stored text turns the verdict red", async () => {
  const { context, page } = await faked(WORDS, undefined, text(WORDS).replace("word7", "word8"));
  await page.getByText("Something is wrong").waitFor();
  await answer(page).getByText("differs from stored").waitFor();
  assert.equal((await verdict(page)).wrong, 1);
  await context.close();
});

const HOSTILE = [
  "# Title\n\n<script>window.pwned = 1</script>\n\n",
  "<img src=x onerror=\"window.pwned = 2\"> <svg onload=\"window.pwned = 3\"><script>window.pwned = 4</script></svg>\n\n",
  "[run](javascript:window.pwned=5) [data](data:text/html,<script>window.pwned=6</script>) [ok](https://example.com/ok \"t\") [vb](vbscript:x)\n\n",
  "![track](https://evil.example/track.png) ![x](x\" onerror=\"window.pwned=7)\n\n",
  "<iframe srcdoc=\"<script>parent.pwned=8</script>\"></iframe><object data=x></object><embed src=x><base href=\"https://evil.example/\">\n\n",
  "<style>body { display: none }</style><link rel=stylesheet href=https://evil.example/x.css>\n\n",
  "<form action=https://evil.example><input name=password autofocus onfocus=\"window.pwned=9\"><button>Send</button></form>\n\n",
  "<div id=prompt class=\"verdict\" style=\"position:fixed;inset:0\" data-verdict=good aria-label=Verdict>fake</div>\n\n",
  "<details open ontoggle=\"window.pwned=10\"><summary>s</summary>d</details>\n\n",
  "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=window.pwned=11&gt;\">\n\n",
  "<p><a href=\"java&#115;cript:window.pwned=12\" onclick=\"window.pwned=13\" target=_self>x</a></p>\n\n",
  "```html\n<script>window.pwned = 14</script>\n```\n\n",
  "- [ ] <b onmouseover=window.pwned=15>task</b>\n- [x] done\n\n<https://example.com> www.example.com\n\n",
];

test("hostile Markdown is inert: nothing runs, loads, hides or poses", async () => {
  const split = HOSTILE.flatMap((block) => block.match(/[\s\S]{1,7}/g)).map((content) => ["TEXT", content]);
  const others = [
    ["THINKING", "<img src=x onerror=window.pwned=20>"],
    ["CODE", "<script>window.pwned=21</script>\n"],
    ["TOOL_USE", "{\"q\":\"<img src=x onerror=window.pwned=22>\"}", { callId: "c", name: "<b>x</b>" }],
    ["CITATION", "<i>cited</i>", { url: "javascript:window.pwned=23", title: "<img src=x onerror=window.pwned=24>" }],
    ["CITATION", "good", { url: "https://example.com/source", title: "Source" }],
  ];
  const context = await browser.context();
  const asked = [];
  await context.addInitScript(fakeSocket, { chunks: [...split, ...others], pace: 1 });
  const page = await openPage(context, playground.url);
  page.on("request", (request) => asked.push(request.url()));
  await ask(page, "<img src=x onerror=window.pwned=30> [x](javascript:alert(1))");
  await answer(page).getByText("digest ok").waitFor();
  const found = await answer(page).locator(".answer-body").evaluate((body) => {
    const all = [...body.querySelectorAll("*")];
    const own = (element) => element.closest(".code-head, summary") || element.closest("svg.icon");
    return {
      elements: [...new Set(all.filter((one) => !own(one)).map((one) => one.localName))],
      handlers: all.flatMap((one) => one.getAttributeNames()).filter((name) => name.startsWith("on")),
      named: [...body.querySelectorAll(".markdown [id], .markdown [name], .markdown [style]:not(.code-block *)")].length,
      posing: [...body.querySelectorAll(".verdict, [data-verdict], .markdown [aria-label='Verdict']")].length,
      links: [...body.querySelectorAll("a")].map((one) => [one.getAttribute("href"), one.rel.includes("noopener"), one.target]),
      inputs: [...body.querySelectorAll("input")].map((one) => [one.type, one.disabled]),
    };
  });
  for (const bad of ["script", "img", "iframe", "object", "embed", "base", "style", "link", "form", "svg", "math", "button", "textarea"]) {
    assert.ok(!found.elements.includes(bad), `${bad} among ${found.elements}`);
  }
  assert.deepEqual([found.handlers, found.named, found.posing], [[], 0, 0]);
  for (const [href, safe, target] of found.links) {
    assert.ok(href === null || /^(https?:|mailto:)/.test(href), href);
    assert.ok(safe && target === "_blank", href);
  }
  assert.ok(found.links.some(([href]) => href === "https://example.com/ok"), "a good link is one");
  assert.ok(found.links.some(([href]) => href === "https://example.com/source"), "a good source is one");
  assert.deepEqual(found.inputs, [["checkbox", true], ["checkbox", true]]);
  await answer(page).getByText("run", { exact: true }).click({ force: true });
  for (const details of await answer(page).locator("details").all()) await details.evaluate((one) => (one.open = true));
  await answer(page).getByText("task").hover();
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.deepEqual(asked.filter((url) => /evil|\/x$/.test(url)), []);
  assert.equal(await page.locator("#prompt").evaluate((one) => one.localName), "textarea");
  assert.ok(await page.getByRole("button", { name: "Copy answer" }).isVisible(), "nothing hides the page");
  // The sanitiser reads in a document of its own, under the page's policy, which says what it refuses there.
  const refusals = /Content Security Policy|TrustedScript/;
  assert.deepEqual(page.problems.filter((problem) => !refusals.test(problem)), []);
  await context.close();
});

test("the policy stops what would get past the sanitiser", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  const violated = await page.evaluate(async () => {
    const seen = [];
    document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
    const inline = document.createElement("script");
    try {
      inline.textContent = "window.pwned = 1";
    } catch {
      seen.push("trusted types");
    }
    document.body.append(inline);
    try {
      document.body.insertAdjacentHTML("beforeend", "<img src=x onerror='window.pwned = 2'>");
    } catch {
      seen.push("trusted types");
    }
    const other = document.createElement("img");
    other.src = "https://evil.example/x.png";
    document.body.append(other);
    await new Promise((next) => setTimeout(next, 100));
    return { seen, pwned: window.pwned };
  });
  assert.equal(violated.pwned, undefined);
  assert.ok(violated.seen.includes("trusted types"), violated.seen.join());
  assert.ok(violated.seen.includes("img-src"), violated.seen.join());
  await context.close();
});

test("frames are shown, filtered, paused and opened, and no token is among them", async () => {
  const context = await browser.context();
  const page = await openPage(context, playground.url);
  await page.getByRole("tab", { name: "Frames" }).click();
  await ask(page, "[sim tokens=30 rate=100] frames");
  await answer(page).getByText("same as stored").waitFor();
  const frames = page.locator(".frames > li");
  await page.getByLabel("Filter frames").fill("WELCOME");
  await eventually(async () => (await frames.count()) === 1, "only WELCOME");
  await frames.first().locator("summary").click();
  const opened = await frames.first().locator("pre").innerText();
  assert.match(opened, /"resumeToken": "…"/);
  await page.getByLabel("Filter frames").fill("");
  await frames.nth(3).waitFor();
  const secrets = [await playground.token(), "eyJ"];
  for (const details of await page.locator(".frames details").all()) await details.evaluate((one) => (one.open = true));
  const shown = await page.locator(".frames").evaluate((one) => one.textContent);
  assert.match(shown, /CHAT_REQUEST/);
  assert.match(shown, /COMPLETE/);
  for (const secret of secrets) assert.ok(!shown.includes(secret), "no token");
  await page.getByRole("button", { name: "Pause the list" }).click();
  const before = await frames.count();
  await ask(page, "[sim tokens=30 rate=100] more frames");
  await page.getByText(/paused, [1-9]\d* waiting/).waitFor();
  assert.equal(await frames.count(), before);
  await page.getByRole("button", { name: "Go on with the list" }).click();
  await eventually(async () => (await frames.count()) > before, "they come in");
  await context.close();
});

test("a frame with a token in a place of its own is covered all the same", async () => {
  const { context, page } = await faked([["TEXT", "resumeToken: eyJhbGciOi.secret-payload.sig "]], undefined);
  await page.getByRole("tab", { name: "Frames" }).click();
  await page.locator('.frames [data-type="CHUNK"] summary, .frames [data-type="CHUNKS"] summary').first().click();
  const shown = await page.locator(".frames").evaluate((one) => one.textContent);
  assert.ok(!shown.includes("secret-payload"), shown);
  await context.close();
});

test("long text is rendered as it comes, without stopping the page", async () => {
  const line = `${"word ".repeat(9)}**bold** \`code\`\n`;
  const chunks = Array.from({ length: 3_000 }, (_, at) => ["TEXT", at % 400 === 399 ? "\n\n## More\n\n" : line]);
  const context = await browser.context();
  await context.addInitScript(fakeSocket, { chunks, pace: 0 });
  const page = await openPage(context, playground.url);
  await page.evaluate(() => {
    window.longest = 0;
    new PerformanceObserver((list) => {
      for (const entry of list.getEntries()) window.longest = Math.max(window.longest, entry.duration);
    }).observe({ type: "longtask" });
  });
  const begun = Date.now();
  await ask(page, "long");
  await grows(page, 5_000);
  await answer(page).getByText("digest ok").waitFor({ timeout: 60_000 });
  const whole = Date.now() - begun;
  const letters = await answer(page).locator(".answer-body").evaluate((body) => body.textContent.length);
  assert.ok(letters > 150_000, `${letters} characters`);
  const longest = await page.evaluate(() => window.longest);
  // On a busy machine everything takes longer; what may not be is that most of it is one piece.
  assert.ok(longest < Math.max(2_000, whole / 3), `the page stood still for ${longest} ms of ${whole}`);
  await context.close();
});
