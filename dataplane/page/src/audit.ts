// The running verdict. It judges twice, and trusts neither the servers nor the client: every socket's
// frames by their own indexes and digests, and what the client gave to the page by the page's own
// count. At the end of an answer its text is compared with the one that the nodes have stored. Pure.

import type { AnswerEvent, FrameRecord } from "@chatcluster/client";
import { digestWith, hex } from "./crc32.js";

/** What was counted since the page was opened. */
export interface Verdict {
  /** Chunks given to the page. */
  readonly chunks: number;
  /** Indexes that never came, on a socket or on the page. */
  readonly lost: number;
  /** Indexes that came again where they must not. */
  readonly twice: number;
  /** Digests, totals or stored texts that differ. */
  readonly wrong: number;
  /** Sealed answers whose digest and total fit. */
  readonly fitting: number;
  /** Of these, answers whose stored text was read and is the same. */
  readonly stored: number;
  /** What was wrong, newest last, at most {@link MAX_FINDINGS}. */
  readonly findings: readonly string[];
}

export const MAX_FINDINGS = 50;
/** Follows that are remembered; those of broken sockets never end, the oldest is forgotten. */
const MAX_FOLLOWS = 1_000;

/** What is read of a frame's data, whichever frame it is. */
interface Told {
  readonly messageId?: unknown;
  readonly from: number;
  readonly truncateTo: number;
  readonly totalChunks: number;
  readonly digest: string;
  readonly index: number;
  readonly chunks: readonly { type: string; content: string }[];
}

/** What one socket was told of one answer. */
interface Follow {
  next: number;
  /** Of everything before `next`; undefined after a cut whose digest nobody told. */
  digest: number | undefined;
}

/** What the page was given of one answer. */
interface Held {
  /** Digest before each index, and after the last. */
  digests: number[];
  /** Index of the first digest. */
  base: number;
}

type Count = "chunks" | "lost" | "twice" | "wrong" | "fitting" | "stored";

export class Audit {
  readonly #follows = new Map<string, Follow>();
  readonly #held = new Map<string, Held>();
  readonly #counts: Record<Count, number> = { chunks: 0, lost: 0, twice: 0, wrong: 0, fitting: 0, stored: 0 };
  readonly #findings: string[] = [];

  verdict(): Verdict {
    return { ...this.#counts, findings: [...this.#findings] };
  }

  /** A frame as a socket brought it. */
  frame(record: FrameRecord): void {
    if (record.direction !== "in") return;
    const frame = record.frame as { type: string; data?: unknown };
    const data = frame.data as Told | undefined;
    const message: unknown = data?.messageId;
    if (typeof message !== "string" || data === undefined) return;
    const key = `${record.socket} ${message}`;
    const place = `${short(message)} on socket ${record.socket}`;
    switch (frame.type) {
      case "ACCEPTED":
        this.#begins(key, { next: 0, digest: 0 });
        break;
      case "RECOVERY":
        this.#begins(key, { next: data.from, digest: parseInt(data.digest, 16) });
        break;
      case "RESET":
        this.#begins(key, { next: data.truncateTo, digest: data.truncateTo === 0 ? 0 : undefined });
        break;
      case "CHUNK":
      case "CHUNKS":
        this.#wireChunks(key, place, data.index, data.chunks);
        break;
      case "COMPLETE":
        this.#wireEnd(key, place, data.totalChunks, data.digest);
        break;
    }
  }

  #begins(key: string, follow: Follow): void {
    this.#follows.delete(key);
    this.#follows.set(key, follow);
    const [oldest] = this.#follows.keys();
    if (this.#follows.size > MAX_FOLLOWS && oldest !== undefined) this.#follows.delete(oldest);
  }

  #wireChunks(key: string, place: string, index: number, chunks: readonly { type: string; content: string }[]): void {
    const follow = this.#follows.get(key);
    // Without a beginning nothing can be said; the page's own count still sees it.
    if (follow === undefined || !Array.isArray(chunks)) return;
    chunks.forEach((chunk, k) => {
      const at = index + k;
      if (at < follow.next) return this.#found("twice", 1, `${place}: index ${at} came again`);
      if (at > follow.next) {
        this.#found("lost", at - follow.next, `${place}: index ${follow.next} was due, ${at} came`);
        follow.digest = undefined;
      }
      follow.next = at + 1;
      if (follow.digest !== undefined) follow.digest = digestWith(follow.digest, chunk.type, chunk.content);
    });
  }

  #wireEnd(key: string, place: string, total: number, digest: string): void {
    const follow = this.#follows.get(key);
    this.#follows.delete(key);
    if (follow === undefined) return;
    if (follow.next < total) this.#found("lost", total - follow.next, `${place}: ended at ${follow.next} of ${total}`);
    else if (follow.next > total) this.#found("wrong", 1, `${place}: ${follow.next} chunks came of ${total}`);
    else if (follow.digest !== undefined && hex(follow.digest) !== digest) {
      this.#found("wrong", 1, `${place}: digest ${hex(follow.digest)}, but ${digest} was told`);
    }
  }

  /** The page begins to show an answer, with chunks from an earlier life of it where there are some. */
  begin(message: string, kept: readonly { type: string; content: string }[], base = 0): void {
    const held: Held = { digests: [0], base };
    for (const chunk of kept) held.digests.push(digestWith(held.digests.at(-1) ?? 0, chunk.type, chunk.content));
    this.#held.set(message, held);
  }

  /** What the client gave to the page. */
  given(message: string, event: AnswerEvent): void {
    const held = this.#held.get(message) ?? { digests: [0], base: 0 };
    this.#held.set(message, held);
    const next = held.base + held.digests.length - 1;
    if (event.type === "reset") held.digests.length = Math.max(0, event.truncateTo - held.base) + 1;
    if (event.type === "complete") this.#ended(message, held, event.seal.totalChunks, event.seal.digest);
    if (event.type !== "chunk") return;
    this.#counts.chunks++;
    const name = short(message);
    if (event.index < next) return this.#found("twice", 1, `${name}: index ${event.index} was given twice`);
    if (event.index > next) this.#found("lost", event.index - next, `${name}: index ${next} was never given`);
    const before = held.digests.at(-1) ?? 0;
    const after = digestWith(before, event.chunk.type, event.chunk.content);
    for (let missing = next; missing < event.index; missing++) held.digests.push(before);
    held.digests.push(after);
  }

  #ended(message: string, held: Held, total: number, digest: string): void {
    const count = held.base + held.digests.length - 1;
    const own = hex(held.digests.at(-1) ?? 0);
    if (count < total) return this.#found("lost", total - count, `${short(message)}: ${count} of ${total} chunks were given`);
    if (count !== total || own !== digest) {
      return this.#found("wrong", 1, `${short(message)}: ${count} chunks with digest ${own}, but ${total} with ${digest} are sealed`);
    }
    this.#counts.fitting++;
  }

  /** What `GET /api/v1/messages/{id}` said of an ended answer, and the text that the page shows. */
  stored(message: string, view: { content: string; digest: string; totalChunks: number }, shown: string): void {
    const held = this.#held.get(message);
    const own = held && { count: held.base + held.digests.length - 1, digest: hex(held.digests.at(-1) ?? 0) };
    if (own && (own.digest !== view.digest || own.count !== view.totalChunks)) {
      return this.#found("wrong", 1, `${short(message)}: stored are ${view.totalChunks} chunks with digest ${view.digest}, here ${own.count} with ${own.digest}`);
    }
    if (view.content !== shown) {
      return this.#found("wrong", 1, `${short(message)}: the stored text is another one (${view.content.length} characters, here ${shown.length})`);
    }
    this.#counts.stored++;
  }

  /** The answer is no longer shown. */
  forget(message: string): void {
    this.#held.delete(message);
  }

  #found(kind: "lost" | "twice" | "wrong", by: number, what: string): void {
    this.#counts[kind] += by;
    this.#findings.push(what);
    if (this.#findings.length > MAX_FINDINGS) this.#findings.shift();
  }
}

/** The end of an id tells more than its beginning, which is a time. */
export function short(message: string): string {
  return message.slice(-6);
}
