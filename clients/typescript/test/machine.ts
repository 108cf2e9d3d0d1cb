// Drives the session machine by hand: its time, its sockets, and what a server says on them.

import { Session, type SessionOptions } from "../src/session.js";
import { digestToHex, digestWith, EMPTY } from "../src/digest.js";
import type { Effect } from "../src/effect.js";
import type { Chunk, ClientFrame, Cursor } from "../src/frames.js";
import { parse } from "../src/parse.js";

export const ID = "018f4d5e-0000-7000-8000-000000000001";
export const OTHER = "018f4d5e-0000-7000-8000-000000000002";
export const chunk = (content: string, type: Chunk["type"] = "TEXT"): Chunk => ({ type, content });
export const digestOf = (chunks: readonly Chunk[]): string => digestToHex(chunks.reduce(digestWith, EMPTY));

type Kind<K extends Effect["kind"]> = Extract<Effect, { kind: K }>;

export class Machine {
  now = 1_000_000;
  readonly session: Session;
  /** Everything it wanted done, in order. */
  readonly log: Effect[] = [];

  constructor(options: Partial<SessionOptions> = {}) {
    const defaults = { urls: ["ws://a", "ws://b", "ws://c"], first: 0, canRenew: true, random: () => 0.5 };
    this.session = new Session({ ...defaults, ...options, now: this.now });
    this.tick();
  }

  do<T>(action: (session: Session, now: number) => T): T {
    const result = action(this.session, this.now);
    this.log.push(...this.session.effects.splice(0));
    this.session.wakeAt();
    return result;
  }

  tick(): void {
    this.do((session, now) => session.tick(now));
  }

  /** Lets time go by, and lets the machine do what is due on the way. */
  advance(ms: number): void {
    const end = this.now + ms;
    for (let at = this.session.wakeAt(); at <= end; at = this.session.wakeAt()) {
      this.now = Math.max(this.now, at);
      this.tick();
    }
    this.now = end;
  }

  of<K extends Effect["kind"]>(kind: K): Kind<K>[] {
    return this.log.filter((effect): effect is Kind<K> => effect.kind === kind);
  }

  last<K extends Effect["kind"]>(kind: K): Kind<K> | undefined {
    return this.of(kind).at(-1);
  }

  /** Number of the socket dialled last. */
  get dialled(): number {
    return this.last("dial")?.socket ?? 0;
  }

  sent<T extends ClientFrame["type"]>(
    type: T,
  ): { socket: number; frame: Extract<ClientFrame, { type: T }> }[] {
    return this.of("send").filter((effect) => effect.frame.type === type) as never;
  }

  get events(): string[] {
    return this.of("tell").map(({ event }) => (event.type === "chunk" ? `chunk ${event.index}` : event.type));
  }

  get cursor(): Cursor | undefined {
    return this.last("tell")?.cursor;
  }

  /** The socket opens and is welcomed; heartbeats every 20 s. */
  welcome(no = this.dialled): number {
    this.do((session, now) => {
      session.connector.opening(no, now);
      session.connector.opened(no, now);
    });
    this.frame(no, "WELCOME", {
      sessionId: ID,
      userId: "u",
      node: `node-${no}`,
      heartbeatMs: 20_000,
      resumeToken: `resume-${no}`,
    });
    return no;
  }

  frame(no: number, type: string, data: object, error?: string): void {
    const parsed = parse(JSON.stringify({ type, timestamp: "2026-01-01T00:00:00Z", data, error }));
    this.do((session, now) => session.message(no, parsed, now));
  }

  close(no: number, code = 1006): void {
    this.do((session, now) => session.closed(no, code, "", now));
  }

  send(requestId = "r-1"): void {
    this.do((session, now) => session.send({ type: "CHAT_REQUEST", content: "hi", requestId }, now));
  }

  accepted(no: number, requestId = "r-1", duplicate = false): void {
    this.frame(no, "ACCEPTED", {
      requestId,
      conversationId: OTHER,
      userMessageId: OTHER,
      messageId: ID,
      duplicate,
    });
  }

  chunks(no: number, index: number, ...contents: string[]): void {
    this.frame(no, "CHUNKS", {
      messageId: ID,
      index,
      epoch: 1,
      chunks: contents.map((content) => chunk(content)),
    });
  }

  recovery(no: number, from: number, before: readonly Chunk[], status = "RECOVERED"): void {
    const data = {
      messageId: ID,
      status,
      from,
      tail: from,
      epoch: 1,
      live: true,
      digest: digestOf(before),
      source: "memory",
    };
    this.frame(no, "RECOVERY", data);
  }

  complete(no: number, chunks: readonly Chunk[]): void {
    const data = {
      messageId: ID,
      conversationId: OTHER,
      status: "completed",
      totalChunks: chunks.length,
      digest: digestOf(chunks),
    };
    this.frame(no, "COMPLETE", data);
  }

  /** Accepted on a welcomed socket, with these chunks received. */
  static answering(...contents: string[]): { machine: Machine; socket: number } {
    const machine = new Machine();
    const socket = machine.welcome();
    machine.send();
    machine.accepted(socket);
    if (contents.length > 0) machine.chunks(socket, 0, ...contents);
    return { machine, socket };
  }
}
