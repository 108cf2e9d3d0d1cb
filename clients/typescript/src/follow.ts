// The machine's own state of one followed message: where it stands, what it listens to, what it
// counted. Text is not kept here. Pure.

import { Backoff } from "./backoff.js";
import { EMPTY, digestFromHex, digestToHex, digestWith } from "./digest.js";
import type { Chunk, Chunks, Cursor, Seal } from "./frames.js";

/** Counts of one answer. */
export interface Counters {
  duplicates: number;
  gaps: number;
  mismatches: number;
  recoveries: number;
  resets: number;
  takeovers: number;
}

/** A chunk that is new, and where a reader stands who has it. */
export interface Fresh {
  readonly index: number;
  readonly epoch: number;
  readonly chunk: Chunk;
  readonly cursor: Cursor;
}

interface Mark {
  readonly epoch: number | undefined;
  readonly digest: number | undefined;
}

export class Follow {
  readonly messageId: string;
  readonly counters: Counters = {
    duplicates: 0,
    gaps: 0,
    mismatches: 0,
    recoveries: 0,
    resets: 0,
    takeovers: 0,
  };
  /** The socket whose frames count. */
  source: number | undefined;
  /** RECONNECT was sent there; its RECOVERY makes it the source. */
  asked: number | undefined;
  /** Chunks are dropped until the RECOVERY of a repeated RECONNECT. */
  resyncing = false;
  /** When to send RECONNECT again. */
  retryAt: number | undefined;
  /** CANCEL_STREAM was asked for and is repeated on every new socket, */
  cancelling = false;
  /** and at this time where it was refused for now. */
  cancelAt: number | undefined;
  /** How long to wait before asking again; a chunk resets it. */
  readonly backoff: Backoff;
  #base: number;
  /** Epoch and digest before `base`: of the cursor it began with. */
  #origin: Mark;
  /** Epoch and digest after each chunk from `base` on. */
  #marks: Mark[] = [];

  constructor(messageId: string, random: () => number, from?: Cursor) {
    this.messageId = messageId;
    this.backoff = new Backoff(random);
    this.#base = from === undefined ? 0 : from.lastChunkIndex + 1;
    this.#origin =
      this.#base === 0
        ? { epoch: undefined, digest: EMPTY }
        : { epoch: from?.epoch, digest: digestFromHex(from?.digest) };
  }

  /** First index not received. */
  get next(): number {
    return this.#base + this.#marks.length;
  }

  get #last(): Mark {
    return this.#marks.at(-1) ?? this.#origin;
  }

  /** Of everything up to `next`; undefined where the part before the first cursor is not known. */
  get digest(): string | undefined {
    const digest = this.#last.digest;
    return digest === undefined ? undefined : digestToHex(digest);
  }

  /** Where to resume. */
  get cursor(): Cursor {
    if (this.next === 0) return { lastChunkIndex: -1 };
    const { epoch } = this.#last;
    const digest = this.digest;
    return {
      lastChunkIndex: this.next - 1,
      ...(epoch === undefined ? {} : { epoch }),
      ...(digest === undefined ? {} : { digest }),
    };
  }

  /** Whether frames of this socket are about this follow as it is now. */
  hears(socket: number): boolean {
    return this.source === socket || (this.source === undefined && this.asked === socket);
  }

  /** Takes consecutive chunks, and gives those that are new; "gap": some before them are missing. */
  take({ index, epoch, chunks }: Chunks): Fresh[] | "gap" {
    if (index > this.next) {
      this.counters.gaps += 1;
      return "gap";
    }
    const known = Math.min(this.next - index, chunks.length);
    this.counters.duplicates += known;
    const fresh: Fresh[] = [];
    for (const chunk of chunks.slice(known)) {
      const before = this.#last.digest;
      const at = this.next;
      this.#marks.push({ epoch, digest: before === undefined ? undefined : digestWith(before, chunk) });
      fresh.push({ index: at, epoch, chunk, cursor: this.cursor });
    }
    if (fresh.length > 0) this.backoff.succeeded();
    return fresh;
  }

  /** RECOVERY tells the digest of the part before `from`. False: it is not the digest of ours. */
  agrees(from: number, digest: string): boolean {
    if (from !== this.next) return true;
    const own = this.#last.digest;
    if (own === undefined && this.#marks.length === 0) {
      this.#origin = { epoch: this.#origin.epoch, digest: digestFromHex(digest) };
      return true;
    }
    return own === undefined || own === digestFromHex(digest);
  }

  /** Whether everything that the seal counts was received; undefined: our own digest is not known. */
  fits(seal: Seal): boolean | undefined {
    if (seal.totalChunks !== this.next) return false;
    const own = this.#last.digest;
    return own === undefined ? undefined : own === digestFromHex(seal.digest);
  }

  /** Indexes ≥ `to` are void. */
  truncate(to: number): void {
    if (to < this.#base) {
      this.#base = to;
      this.#origin = { epoch: undefined, digest: to === 0 ? EMPTY : undefined };
      this.#marks = [];
    }
    this.#marks.length = Math.min(this.#marks.length, to - this.#base);
  }

  /** Forgets a socket that is gone. */
  lose(socket: number): void {
    if (this.source === socket) this.source = undefined;
    if (this.asked === socket) this.asked = undefined;
  }
}
