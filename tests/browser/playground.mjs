// A playground of its own for each test file: started on free ports, ended with its process.
import { spawn } from "node:child_process";
import { access } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = dirname(fileURLToPath(import.meta.url));
/** The `dataplane` binary: CHATCLUSTER_DATAPLANE, or what `cargo build` leaves. */
export const binary = process.env.CHATCLUSTER_DATAPLANE ?? join(here, "../../target/debug/dataplane");
/** Below what Linux gives to connections, as node i takes this port + i and + 100 + i. */
const FIRST_PORT = 12_000;
const PORTS = 20_000;
const STARTS = 8;
const READY_MS = 30_000;

export class Playground {
  #process;

  constructor(process, url) {
    this.#process = process;
    this.url = url;
  }

  /** Starts it with these environment variables and waits until its nodes serve. */
  static async start(environment = {}) {
    await access(binary).catch(() => {
      throw new Error(`${binary} is not there: \`cargo build --workspace --bins\`, or set CHATCLUSTER_DATAPLANE`);
    });
    for (let attempt = 1; ; attempt++) {
      try {
        return await Playground.#startOn(FIRST_PORT + Math.floor(Math.random() * PORTS), environment);
      } catch (error) {
        // Somebody else may have one of the ports: then others help.
        if (attempt === STARTS || !String(error).includes("is taken")) throw error;
      }
    }
  }

  static #startOn(port, environment) {
    const child = spawn(binary, ["playground"], {
      env: { ...process.env, CHAT_DEV_PORT: String(port), STORES: "memory", ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    return new Promise((resolve, reject) => {
      let said = "";
      const timer = setTimeout(() => fail(`not ready within ${READY_MS} ms`), READY_MS);
      const fail = (why) => {
        clearTimeout(timer);
        child.kill("SIGKILL");
        reject(new Error(`the playground did not start: ${why}\n${said}`));
      };
      child.once("error", (error) => fail(error.message));
      child.once("exit", (code) => fail(`it ended with ${code}`));
      const listen = (data) => {
        said += data;
        if (!said.includes("Ctrl-C")) return;
        clearTimeout(timer);
        child.removeAllListeners("exit");
        resolve(new Playground(child, `http://127.0.0.1:${port}`));
      };
      child.stdout.setEncoding("utf8").on("data", listen);
      child.stderr.setEncoding("utf8").on("data", listen);
    });
  }

  async ask(path, body) {
    const answer = await fetch(this.url + path, body === undefined ? {} : { method: "POST", body: JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.status === 200 ? answer.json() : undefined;
  }

  nodes() {
    return this.ask("/dev/nodes");
  }

  do(name, act, body = {}) {
    return this.ask(`/dev/nodes/${name}/${act}`, body);
  }

  async token(user = "alice") {
    return (await this.ask(`/dev/token?user=${user}`)).token;
  }

  /** Which node writes an answer now: the provider's newest call. */
  async writer(messageId) {
    const calls = (await this.ask("/dev/upstream/calls")).filter((call) => call.messageId === messageId);
    return calls.sort((a, b) => a.epoch - b.epoch).at(-1)?.node;
  }

  /** The stored answer, from any node that serves. */
  async stored(messageId, user = "alice") {
    const serving = (await this.nodes()).find((node) => node.phase === "serving");
    const headers = { authorization: `Bearer ${await this.token(user)}` };
    const answer = await fetch(`${serving.baseUrl}/api/v1/messages/${messageId}`, { headers });
    if (!answer.ok) throw new Error(`the stored answer: ${answer.status}`);
    return answer.json();
  }

  /** All nodes serve again. */
  async mend() {
    for (const node of await this.nodes()) if (node.phase !== "serving") await this.do(node.name, "start");
    await eventually(async () => (await this.nodes()).every((node) => node.phase === "serving"), "all nodes serve");
  }

  async stop() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill("SIGTERM");
    const timer = setTimeout(() => this.#process.kill("SIGKILL"), 5_000);
    await ended;
    clearTimeout(timer);
  }
}

/** Waits until it is so; what it says last is told where it never is. */
export async function eventually(isSo, what, patience = 20_000) {
  const deadline = Date.now() + patience;
  let last;
  while (Date.now() < deadline) {
    last = await isSo();
    if (last) return last;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`not within ${patience} ms: ${what}`);
}
