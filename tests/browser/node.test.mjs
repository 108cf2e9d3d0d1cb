// The page of one node, without a playground: it asks for a token, and has no fleet to break.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { Browser, openPage } from "./browser.mjs";
import { answer, ask, assertClean, ended } from "./chat.mjs";
import { binary, eventually } from "./playground.mjs";

const KEY = "a key of at least thirty-two bytes, for tests";
let browser, folder, node, url;

/** Two ports that are free now. */
async function freePorts() {
  const servers = [createServer(), createServer()];
  const ports = [];
  for (const server of servers) {
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    ports.push(server.address().port);
  }
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}

function token(user, lives = 600) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1_000);
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat: now, exp: now + lives })}`;
  return `${signed}.${createHmac("sha256", KEY).update(signed).digest("base64url")}`;
}

before(async () => {
  browser = await Browser.start();
  folder = await mkdtemp(join(tmpdir(), "chat-node-"));
  const [data, admin] = await freePorts();
  url = `http://127.0.0.1:${data}`;
  await writeFile(join(folder, "node.yaml"), `node:\n  name: solo\n  dataAddress: 127.0.0.1:${data}\n  adminAddress: 127.0.0.1:${admin}\n  openAdmin: true\npage:\n  enabled: true\n`);
  const environment = { ...process.env, CHAT_JWT_SECRET: KEY, CHAT_RESUME_SECRET: KEY, RUST_LOG: "warn" };
  node = spawn(binary, ["run", "--config", join(folder, "node.yaml")], { env: environment, stdio: ["ignore", "ignore", "pipe"] });
  let said = "";
  node.stderr.setEncoding("utf8").on("data", (text) => (said += text));
  await eventually(async () => {
    if (node.exitCode !== null) throw new Error(`the node ended: ${said}`);
    return fetch(`http://127.0.0.1:${admin}/readyz`).then((answered) => answered.ok, () => false);
  }, "the node serves");
});
after(async () => {
  await browser?.stop();
  node?.kill("SIGKILL");
  if (folder) await rm(folder, { recursive: true, force: true });
});

test("a node's page asks for a token until it is a good one, and then chats", async () => {
  const context = await browser.context();
  const page = await openPage(context, url);
  const dialog = page.getByRole("dialog", { name: "Token" });
  await dialog.getByLabel("Token").fill("nonsense");
  await dialog.getByRole("button", { name: "Connect" }).click();
  await dialog.locator(".problem").waitFor();
  await dialog.getByLabel("Token").fill(`Bearer ${token("carol")}`);
  await dialog.getByRole("button", { name: "Connect" }).click();
  await page.getByText("An answer that outlives its server").waitFor();
  assert.equal(await page.getByRole("button", { name: "Unleash chaos" }).count(), 0);
  assert.equal(await page.getByRole("button", { name: "Demos" }).count(), 0);
  await ask(page, "[sim tokens=50 rate=200] Hello node");
  await ended(page);
  await assertClean(page, 50);
  await page.reload();
  await answer(page).getByText("same as stored").waitFor();
  assert.equal(await dialog.count(), 0, "the tab keeps it");
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage }));
  assert.ok(!kept.includes("eyJ"), "and nothing else does");
  await context.close();
});
