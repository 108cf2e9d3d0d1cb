// A server that does what a test says: real sockets on a free port, no mind of its own.

import { once } from "node:events";
import { type IncomingMessage, type Server, createServer } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { WebSocket, WebSocketServer } from "ws";
import { ID, OTHER, digestOf } from "./machine.js";
import type { Chunk } from "../src/frames.js";

/** A socket of the fake server. */
export class Peer {
  readonly offered: string[];
  readonly query: URLSearchParams;
  readonly received: Record<string, unknown>[] = [];
  readonly ws: WebSocket;
  #wanted: { type: string; found: (frame: Record<string, unknown>) => void }[] = [];

  constructor(ws: WebSocket, request: IncomingMessage) {
    this.ws = ws;
    this.offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((entry) => entry.trim());
    this.query = new URL(request.url ?? "", "http://fake").searchParams;
    ws.on("message", (data) => this.#receive(JSON.parse(String(data)) as Record<string, unknown>));
  }

  #receive(frame: Record<string, unknown>): void {
    const at = this.#wanted.findIndex(({ type }) => type === frame["type"]);
    if (at < 0) this.received.push(frame);
    else this.#wanted.splice(at, 1)[0]!.found(frame);
  }

  /** The next frame of this type, which is taken out of `received`. */
  async expect(type: string): Promise<Record<string, unknown>> {
    const at = this.received.findIndex((frame) => frame["type"] === type);
    if (at >= 0) return this.received.splice(at, 1)[0]!;
    return new Promise((found) => this.#wanted.push({ type, found }));
  }

  frame(type: string, data: object, error?: string): void {
    this.ws.send(JSON.stringify({ type, timestamp: new Date().toISOString(), error, data }));
  }

  welcome(node = "fake", heartbeatMs = 20_000): void {
    this.frame("WELCOME", {
      sessionId: ID,
      userId: "u",
      serverTime: new Date().toISOString(),
      protocol: "chatcluster.v1",
      node,
      heartbeatMs,
      maxContentChars: 10_000,
      coalesceMs: 40,
      tokenExpiresAt: "2030-01-01T00:00:00Z",
      resumeToken: "secret-resume",
    });
  }

  accepted(request: Record<string, unknown>, duplicate = false): void {
    const { requestId } = request;
    this.frame("ACCEPTED", {
      requestId,
      conversationId: OTHER,
      userMessageId: OTHER,
      messageId: ID,
      duplicate,
    });
  }

  chunks(index: number, chunks: Chunk[], epoch = 1): void {
    this.frame("CHUNKS", { messageId: ID, index, epoch, chunks });
  }

  recovery(from: number, before: Chunk[]): void {
    this.frame("RECOVERY", {
      messageId: ID,
      status: "RECOVERED",
      from,
      tail: from,
      epoch: 1,
      live: true,
      digest: digestOf(before),
      source: "memory",
    });
  }

  complete(chunks: Chunk[]): void {
    const usage = { promptTokens: 1, completionTokens: chunks.length };
    this.frame("COMPLETE", {
      messageId: ID,
      conversationId: OTHER,
      status: "completed",
      totalChunks: chunks.length,
      digest: digestOf(chunks),
      finishReason: "stop",
      model: "fake",
      usage,
      latencyMs: 5,
      firstTokenMs: 1,
    });
  }

  async closed(): Promise<number> {
    if (this.ws.readyState === WebSocket.CLOSED) return 1006;
    const [code] = (await once(this.ws, "close")) as [number];
    return code;
  }
}

export class FakeServer {
  /** HTTP status to refuse the next upgrades with, one each. */
  readonly refusals: number[] = [];
  /** Answers of POST /api/v1/tickets, one each. */
  readonly tickets: { status: number; body: object }[] = [];
  /** Authorization of the tickets that were asked for. */
  readonly asked: (string | undefined)[] = [];
  readonly #http: Server;
  readonly #waiting: ((peer: Peer) => void)[] = [];
  readonly #peers: Peer[] = [];
  readonly #open = new Set<Socket>();

  private constructor(http: Server) {
    this.#http = http;
    const upgrader = new WebSocketServer({
      noServer: true,
      handleProtocols: (offered) => offered.has("chatcluster.v1") && "chatcluster.v1",
    });
    http.on("connection", (socket) => this.#open.add(socket));
    http.on("upgrade", (request, socket, head) => {
      const refusal = this.refusals.shift();
      if (refusal !== undefined)
        return void socket.end(`HTTP/1.1 ${refusal} No\r\nconnection: close\r\n\r\n`);
      upgrader.handleUpgrade(request, socket, head, (ws) => this.#arrive(new Peer(ws, request)));
    });
    http.on("request", (request, response) => {
      this.asked.push(request.headers.authorization);
      const { status, body } = this.tickets.shift() ?? { status: 404, body: {} };
      response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
    });
  }

  static async start(): Promise<FakeServer> {
    const http = createServer();
    const server = new FakeServer(http);
    http.listen(0, "127.0.0.1");
    await once(http, "listening");
    return server;
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#http.address() as AddressInfo).port}/ws/chat`;
  }

  #arrive(peer: Peer): void {
    const waiting = this.#waiting.shift();
    if (waiting === undefined) this.#peers.push(peer);
    else waiting(peer);
  }

  /** The next socket that arrives. */
  async peer(): Promise<Peer> {
    return this.#peers.shift() ?? new Promise((found) => this.#waiting.push(found));
  }

  stop(): void {
    this.#http.close();
    for (const socket of this.#open) socket.destroy();
  }
}
