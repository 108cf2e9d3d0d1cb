// An answer that is being received: what the machine tells becomes text, promises, listeners and
// iterators.

import type { Answer, AnswerEvent, AnswerEvents, AnswerState, AnswerStats } from "./answer.js";
import { Emitter, type Listener, type Unsubscribe } from "./emitter.js";
import { ChatError } from "./errors.js";
import type { Follow } from "./follow.js";
import type { Accepted, Chunk, Cursor, Seal } from "./frames.js";
import type { Snapshot } from "./options.js";
import { AnswerQueue } from "./queue.js";

/** What an answer asks of its client. */
export interface Owner {
  cancel(answer: LiveAnswer): void;
  unfollow(answer: LiveAnswer): void;
}

interface Settled<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: ChatError) => void;
}

function settled<T>(): Settled<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: ChatError) => void;
  const promise = new Promise<T>((yes, no) => ([resolve, reject] = [yes, no]));
  // Whoever does not look at it has not to handle it.
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

const isContent = ({ type }: Chunk): boolean => type === "TEXT" || type === "CODE";
const contentOf = (chunks: readonly Chunk[]): string =>
  chunks
    .filter(isContent)
    .map((chunk) => chunk.content)
    .join("");

export class LiveAnswer implements Answer {
  readonly requestId: string | undefined;
  messageId: string | undefined;
  conversationId: string | undefined;
  /** The machine's book of it; undefined until accepted. */
  follow: Follow | undefined;
  readonly #owner: Owner;
  readonly #accepted = settled<Accepted>();
  readonly #done = settled<Seal>();
  readonly #emitter = new Emitter<AnswerEvents>();
  readonly #queues = new Set<AnswerQueue>();
  #state: AnswerState = "pending";
  #base = 0;
  #chunks: Chunk[] = [];
  #epochs: number[] = [];
  #content = "";
  #cursor: Cursor = { lastChunkIndex: -1 };
  #digestOk: boolean | undefined;
  #first: AnswerEvent | undefined;
  #end: AnswerEvent | undefined;

  constructor(owner: Owner, requestId: string | undefined) {
    this.#owner = owner;
    this.requestId = requestId;
  }

  get accepted(): Promise<Accepted> {
    return this.#accepted.promise;
  }

  get done(): Promise<Seal> {
    return this.#done.promise;
  }

  get base(): number {
    return this.#base;
  }

  get chunks(): readonly Chunk[] {
    return this.#chunks;
  }

  get content(): string {
    return this.#content;
  }

  get state(): AnswerState {
    return this.#state;
  }

  get stats(): AnswerStats {
    const none = { duplicates: 0, gaps: 0, mismatches: 0, recoveries: 0, resets: 0, takeovers: 0 };
    const digest = this.#cursor.lastChunkIndex < 0 ? "00000000" : this.#cursor.digest;
    return {
      ...(this.follow?.counters ?? none),
      chunks: this.#chunks.length,
      digest,
      digestOk: this.#digestOk,
    };
  }

  snapshot(): Snapshot {
    return this.#base === 0 ? { ...this.#cursor, chunks: [...this.#chunks] } : this.#cursor;
  }

  on<K extends keyof AnswerEvents>(type: K, listener: Listener<AnswerEvents[K]>): Unsubscribe {
    return this.#emitter.on(type, listener);
  }

  cancel(): void {
    if (this.#end === undefined) this.#owner.cancel(this);
  }

  unfollow(): void {
    if (this.#end === undefined) this.#owner.unfollow(this);
  }

  [Symbol.asyncIterator](): AsyncIterator<AnswerEvent, undefined> {
    const before = this.#chunks.map((chunk, k): AnswerEvent => {
      return { type: "chunk", index: this.#base + k, epoch: this.#epochs[k] ?? 0, chunk };
    });
    if (this.#first !== undefined) before.unshift(this.#first);
    if (this.#end !== undefined) before.push(this.#end);
    const queue = new AnswerQueue(before, (dropped) => this.#queues.delete(dropped));
    if (this.#end === undefined) this.#queues.add(queue);
    else queue.end();
    return queue;
  }

  /** It follows a message from here on: from the start, or from where `from` stands. */
  begin(messageId: string, follow: Follow, from?: Snapshot): void {
    this.messageId = messageId;
    this.follow = follow;
    if (from === undefined) return;
    const { chunks, ...cursor } = from;
    this.#cursor = cursor;
    this.#base = chunks === undefined ? from.lastChunkIndex + 1 : 0;
    this.#chunks = [...(chunks ?? [])];
    this.#epochs = this.#chunks.map(() => cursor.epoch ?? 0);
    this.#content = contentOf(this.#chunks);
  }

  /** ACCEPTED. Where another answer of this client has the same message, it becomes as far as that one. */
  accept(accepted: Accepted, follow: Follow, twin: LiveAnswer | undefined): void {
    this.messageId = accepted.messageId;
    this.conversationId = accepted.conversationId;
    this.follow = follow;
    this.#state = "waiting";
    this.#accepted.resolve(accepted);
    this.#first = { type: "accepted", ...accepted };
    this.#emit(this.#first);
    if (twin !== undefined) this.#copy(twin);
  }

  /** What the machine tells; its reader stands at `cursor` afterwards. */
  apply(event: AnswerEvent, cursor: Cursor): void {
    if (this.#end !== undefined) return;
    this.#cursor = cursor;
    this.#take(event);
    this.#emit(event);
    if (this.#end !== undefined) this.#close();
  }

  /** It ends here without a seal. */
  fail(error: ChatError): void {
    this.apply({ type: "error", error }, this.#cursor);
  }

  #copy(twin: LiveAnswer): void {
    this.#base = twin.#base;
    const [chunks, epochs, cursor] = [[...twin.#chunks], [...twin.#epochs], twin.#cursor];
    chunks.forEach((chunk, k) => {
      const index = this.#base + k;
      const epoch = epochs[k] ?? 0;
      const here = index === cursor.lastChunkIndex ? cursor : { lastChunkIndex: index, epoch };
      this.apply({ type: "chunk", index, epoch, chunk }, here);
    });
    this.#cursor = cursor;
  }

  #take(event: AnswerEvent): void {
    switch (event.type) {
      case "chunk":
        this.#state = this.#state === "cancelling" ? "cancelling" : "live";
        this.#chunks.push(event.chunk);
        this.#epochs.push(event.epoch);
        if (isContent(event.chunk)) this.#content += event.chunk.content;
        return;
      case "reset":
        return this.#truncate(event.truncateTo);
      case "recovery":
        if (this.#state === "pending") this.#state = event.live ? "live" : "waiting";
        return this.#accepted.resolve({ messageId: event.messageId, duplicate: false });
      case "status":
        if (event.state !== "sealed" && this.#state !== "cancelling") this.#state = event.state;
        return;
      case "complete":
        return this.#seal(event);
      case "error":
        this.#end = event;
        this.#state = event.error.code === "UNFOLLOWED" ? "unfollowed" : "error";
        this.#accepted.reject(event.error);
        return this.#done.reject(event.error);
    }
  }

  #seal(event: AnswerEvents["complete"]): void {
    const { seal } = event;
    const { digest } = this.stats;
    const whole = this.#cursor.lastChunkIndex + 1 === seal.totalChunks;
    this.#digestOk = digest === undefined ? undefined : whole && digest === seal.digest.toLowerCase();
    this.#end = event;
    this.#state = seal.status;
    this.conversationId = seal.conversationId;
    this.#done.resolve(seal);
  }

  #truncate(to: number): void {
    if (to < this.#base) this.#base = to;
    const keep = Math.max(0, Math.min(to - this.#base, this.#chunks.length));
    this.#chunks.length = keep;
    this.#epochs.length = keep;
    this.#content = contentOf(this.#chunks);
  }

  #emit(event: AnswerEvent): void {
    for (const queue of this.#queues) queue.push(event);
    this.#emitter.emit(event.type, event as never);
  }

  #close(): void {
    for (const queue of this.#queues) queue.end();
    this.#queues.clear();
  }
}
