// Real nodes to break: `dataplane playground` on free ports. The program is named by
// CHATCLUSTER_DATAPLANE; by default it is the debug build of this repository.

import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";
import { WebSocket } from "ws";
import { type Answer, ChatClient, type ClientOptions, type Seal } from "../src/index.js";

// From dist-test/test.
const BUILT = fileURLToPath(new URL("../../../../target/debug/dataplane", import.meta.url));
const PROGRAM = process.env["CHATCLUSTER_DATAPLANE"] ?? BUILT;
const NODES = 3;

export interface Node {
  readonly name: string;
  readonly baseUrl: string;
  readonly wsUrl: string;
  readonly phase: string;
}

interface Call {
  readonly messageId: string;
  readonly requestId: string | null;
  readonly node: string;
}

interface Message {
  readonly content: string;
  readonly status: string;
  readonly totalChunks: number;
  readonly digest: string;
}

export class Playground {
  readonly #child: ChildProcess;
  /** Of the page and `/dev`. */
  readonly base: string;

  private constructor(child: ChildProcess, base: string) {
    this.#child = child;
    this.base = base;
  }

  static async start(env: Record<string, string> = {}): Promise<Playground> {
    assert.ok(
      existsSync(PROGRAM),
      `${PROGRAM} is not there: cargo build --workspace, or set CHATCLUSTER_DATAPLANE`,
    );
    const port = await freePorts();
    const child = spawn(PROGRAM, ["playground"], {
      env: { ...process.env, ...env, CHAT_DEV_PORT: String(port), CHAT_DEV_NODES: String(NODES) },
      stdio: ["ignore", "ignore", "inherit"],
    });
    const playground = new Playground(child, `http://127.0.0.1:${port}`);
    while ((await playground.#serving()) < NODES) {
      assert.equal(child.exitCode, null, "the playground ended");
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    return playground;
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return;
    this.#child.kill();
    await once(this.#child, "exit");
  }

  async #serving(): Promise<number> {
    const nodes = await this.nodes().catch(() => []);
    return nodes.filter(({ phase }) => phase === "serving").length;
  }

  async #get<T>(path: string): Promise<T> {
    const response = await fetch(this.base + path);
    assert.ok(response.ok, `${path}: HTTP ${response.status}`);
    return (await response.json()) as T;
  }

  nodes(): Promise<Node[]> {
    return this.#get("/dev/nodes");
  }

  async token(user = "alice"): Promise<string> {
    return (await this.#get<{ token: string }>(`/dev/token?user=${user}`)).token;
  }

  async command(node: string, action: "kill" | "drain" | "pause" | "start", body?: object): Promise<void> {
    const init = { method: "POST", ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
    const response = await fetch(`${this.base}/dev/nodes/${node}/${action}`, init);
    assert.equal(response.status, 202);
  }

  /** Starts again what a test broke. */
  async heal(): Promise<void> {
    for (const { name, phase } of await this.nodes())
      if (phase !== "serving") await this.command(name, "start");
    while ((await this.#serving()) < NODES) await new Promise((resolve) => setTimeout(resolve, 50));
  }

  /** How often the provider was asked, and by whom. */
  async calls(messageId?: string): Promise<Call[]> {
    const calls = await this.#get<Call[]>("/dev/upstream/calls");
    return calls.filter((call) => messageId === undefined || call.messageId === messageId);
  }

  /** The node that produces the answer now. */
  async owner(answer: Answer): Promise<string> {
    const { messageId } = await answer.accepted;
    return (await this.calls(messageId)).at(-1)!.node;
  }

  async client(options: Partial<ClientOptions> = {}): Promise<ChatClient> {
    const urls = (await this.nodes()).map(({ wsUrl }) => wsUrl);
    return new ChatClient({ urls, token: () => this.token(), WebSocket, ...options });
  }

  /** As a node tells it over HTTP. */
  async message(id: string): Promise<Message> {
    const node = (await this.nodes()).find(({ phase }) => phase === "serving");
    const response = await fetch(`${node?.baseUrl}/api/v1/messages/${id}`, {
      headers: { authorization: `Bearer ${await this.token()}` },
    });
    assert.equal(response.status, 200);
    return (await response.json()) as Message;
  }

  /** The whole answer came, each chunk once, and it is what every node says. */
  async assertWhole(answer: Answer, tokens?: number): Promise<Seal> {
    const seal = await answer.done;
    const { content, status, totalChunks, digest } = await this.message(seal.messageId);
    assert.equal(answer.content, content);
    assert.deepEqual([seal.status, seal.totalChunks, seal.digest], [status, totalChunks, digest]);
    assert.ok(totalChunks > 0 && answer.chunks.length === totalChunks);
    if (tokens !== undefined) assert.deepEqual([status, totalChunks], ["completed", tokens]);
    const { gaps, mismatches, digestOk } = answer.stats;
    assert.deepEqual({ gaps, mismatches, digestOk }, { gaps: 0, mismatches: 0, digestOk: true });
    return seal;
  }
}

/** Fulfilled when so many chunks are held. */
export function received(answer: Answer, chunks: number): Promise<void> {
  return new Promise((resolve, reject) => {
    if (answer.chunks.length >= chunks) return resolve();
    answer.on("chunk", ({ index }) => index + 1 >= chunks && resolve());
    answer.done.then(() => reject(new Error(`it ended with ${answer.chunks.length} chunks`)), reject);
  });
}

/** A port for the page such that those of the nodes are free too. */
async function freePorts(): Promise<number> {
  for (;;) {
    const port = 20_000 + 4 * Math.floor(Math.random() * 3_000);
    const wanted = [port, ...Array.from({ length: NODES }, (_, k) => [port + 1 + k, port + 101 + k]).flat()];
    const free = await Promise.all(wanted.map(isFree));
    if (free.every(Boolean)) return port;
  }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  try {
    server.listen(port, "127.0.0.1");
    await once(server, "listening");
    return true;
  } catch {
    return false;
  } finally {
    server.close();
  }
}
