// The open sockets: the edge to WebSocket. Numbers are the machine's.

import type { WebSocketConstructor, WebSocketLike } from "./options.js";

/** What a socket tells. After `closed` it tells nothing more. */
export interface WireEvents {
  opened(no: number): void;
  message(no: number, data: unknown): void;
  closed(no: number, code: number, reason: string): void;
}

const OPEN = 1;

export class Wires {
  readonly #WebSocket: WebSocketConstructor;
  readonly #events: WireEvents;
  readonly #open = new Map<number, WebSocketLike>();

  constructor(WebSocket: WebSocketConstructor, events: WireEvents) {
    this.#WebSocket = WebSocket;
    this.#events = events;
  }

  get size(): number {
    return this.#open.size;
  }

  /** Throws what the constructor throws. */
  open(no: number, url: string, protocols: string[]): void {
    const wire = new this.#WebSocket(url, protocols);
    this.#open.set(no, wire);
    wire.onopen = () => this.#events.opened(no);
    wire.onmessage = (event: { data: unknown }) => this.#events.message(no, event.data);
    // What an error says to scripts is nothing; `close` follows it.
    wire.onerror = () => undefined;
    wire.onclose = (event: { code: number; reason: string }) => {
      if (this.#open.delete(no)) this.#events.closed(no, event.code, event.reason);
    };
  }

  send(no: number, text: string): void {
    const wire = this.#open.get(no);
    if (wire?.readyState === OPEN) wire.send(text);
  }

  /** Says goodbye; `closed` is told. */
  close(no: number): void {
    this.#open.get(no)?.close(1000);
  }

  /** Lets go of a peer that may not answer; nothing more is told. */
  abandon(no: number): void {
    const wire = this.#open.get(no);
    if (wire === undefined || !this.#open.delete(no)) return;
    wire.onopen = wire.onmessage = wire.onclose = null;
    if (wire.terminate === undefined) wire.close();
    else wire.terminate();
  }

  abandonAll(): void {
    for (const no of [...this.#open.keys()]) this.abandon(no);
  }
}
