// The events of an answer on their way to one `for await`. Never more than the answer has chunks, and a
// few: what a reset makes void is taken out again, and of mere notices only the newest are kept.

import type { AnswerEvent } from "./answer.js";

/** Statuses, recoveries and takeovers that wait for a slow reader. */
const MAX_NOTICES = 32;
/** Events that were read and not yet forgotten. */
const MANY_READ = 1_024;
const NOTICES = new Set(["status", "recovery", "takeover"]);

export class AnswerQueue implements AsyncIterator<AnswerEvent, undefined> {
  #events: AnswerEvent[];
  /** First one not yet read: taking from the front of a long array costs its length. */
  #at = 0;
  #notices = 0;
  #ended = false;
  #waiting: ((result: IteratorResult<AnswerEvent, undefined>) => void)[] = [];
  readonly #dropped: (queue: AnswerQueue) => void;

  /** `dropped` is called when nobody reads any more. */
  constructor(before: AnswerEvent[], dropped: (queue: AnswerQueue) => void) {
    this.#events = before;
    this.#dropped = dropped;
  }

  push(event: AnswerEvent): void {
    const reader = this.#waiting.shift();
    if (reader !== undefined) return reader({ done: false, value: event });
    if (event.type === "reset") this.#void(event.truncateTo);
    if (NOTICES.has(event.type)) this.#notice();
    if (this.#at > MANY_READ) this.#compact();
    this.#events.push(event);
  }

  /** Nothing follows. */
  end(): void {
    this.#ended = true;
    for (const reader of this.#waiting.splice(0)) reader({ done: true, value: undefined });
  }

  next(): Promise<IteratorResult<AnswerEvent, undefined>> {
    const event = this.#events[this.#at];
    if (event !== undefined) {
      this.#at += 1;
      if (this.#at === this.#events.length) this.#compact();
      if (NOTICES.has(event.type)) this.#notices -= 1;
      return Promise.resolve({ done: false, value: event });
    }
    if (this.#ended) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  return(): Promise<IteratorResult<AnswerEvent, undefined>> {
    this.#events = [];
    this.#at = 0;
    this.end();
    this.#dropped(this);
    return Promise.resolve({ done: true, value: undefined });
  }

  #compact(): void {
    this.#events.splice(0, this.#at);
    this.#at = 0;
  }

  #void(from: number): void {
    this.#compact();
    this.#events = this.#events.filter((event) => {
      if (event.type === "chunk") return event.index < from;
      return event.type !== "reset" || event.truncateTo < from;
    });
  }

  #notice(): void {
    this.#notices += 1;
    if (this.#notices <= MAX_NOTICES) return;
    this.#notices -= 1;
    this.#compact();
    this.#events.splice(
      this.#events.findIndex((event) => NOTICES.has(event.type)),
      1,
    );
  }
}
