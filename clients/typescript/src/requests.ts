// Requests that are not accepted yet: each is sent once on every socket, and again when it was
// refused for now, always with the same requestId. Pure.

import type { ClientFrame, ErrorData } from "./frames.js";

/** A refused request is given up after so many tries, */
export const TRIES = 30;
/** and not before so many milliseconds since the first: a store may be away for a minute. */
export const PATIENCE_MS = 90_000;

export type ChatRequest = Extract<ClientFrame, { type: "CHAT_REQUEST" }>;

interface Pending {
  readonly frame: ChatRequest;
  sentOn: number | undefined;
  firstSentAt: number | undefined;
  retryAt: number | undefined;
  tries: number;
  /** To be cancelled as soon as it has a message. */
  cancelling: boolean;
}

export class Requests {
  readonly #pending = new Map<string, Pending>();

  get size(): number {
    return this.#pending.size;
  }

  get ids(): readonly string[] {
    return [...this.#pending.keys()];
  }

  has(id: string): boolean {
    return this.#pending.has(id);
  }

  add(frame: ChatRequest): void {
    const pending = {
      frame,
      sentOn: undefined,
      firstSentAt: undefined,
      retryAt: undefined,
      tries: 0,
      cancelling: false,
    };
    this.#pending.set(frame.requestId, pending);
  }

  /** Takes one off the list: accepted, given up or let go. `sent`: the server may know it. */
  remove(id: string): { sent: boolean; cancelling: boolean } | undefined {
    const pending = this.#pending.get(id);
    if (pending === undefined || !this.#pending.delete(id)) return undefined;
    return { sent: pending.tries > 0, cancelling: pending.cancelling };
  }

  /** False: it was never sent and need not be. */
  cancel(id: string): boolean {
    const pending = this.#pending.get(id);
    if (pending === undefined) return true;
    pending.cancelling = true;
    return pending.tries > 0;
  }

  /** Those to be sent on this socket now; they count as sent. */
  due(socket: number, now: number): ChatRequest[] {
    const due: ChatRequest[] = [];
    for (const pending of this.#pending.values()) {
      const { retryAt } = pending;
      if (retryAt === undefined ? pending.sentOn === socket : retryAt > now) continue;
      pending.retryAt = undefined;
      pending.sentOn = socket;
      pending.firstSentAt ??= now;
      pending.tries += 1;
      due.push(pending.frame);
    }
    return due;
  }

  /** ERROR for one of them. False: it is of no use to try again. */
  refused(id: string, error: ErrorData, delayMs: number, now: number): boolean {
    const pending = this.#pending.get(id);
    if (pending === undefined) return true;
    const hopeless = pending.tries >= TRIES && now - (pending.firstSentAt ?? now) >= PATIENCE_MS;
    if (!error.retryable || hopeless) return false;
    pending.retryAt = now + delayMs;
    return true;
  }

  /** A socket is gone: what was sent there is sent again elsewhere. */
  lose(socket: number): void {
    for (const pending of this.#pending.values()) {
      if (pending.sentOn === socket) pending.sentOn = pending.retryAt = undefined;
    }
  }

  wakeAt(): number {
    return Math.min(...[...this.#pending.values()].map((pending) => pending.retryAt ?? Infinity));
  }
}
