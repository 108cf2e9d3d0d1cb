// One answer, as the owner of a client sees it.

import type { ChatError } from "./errors.js";
import type { Listener, Unsubscribe } from "./emitter.js";
import type { Accepted, Chunk, Recovery, Reset, Seal, Status, Takeover } from "./frames.js";
import type { Snapshot } from "./options.js";

/** What happens to an answer, in order. Each chunk comes exactly once between two resets. */
export type AnswerEvent =
  | ({ readonly type: "accepted" } & Accepted)
  | { readonly type: "chunk"; readonly index: number; readonly epoch: number; readonly chunk: Chunk }
  /** Forget the chunks with index ≥ `truncateTo`; they are gone from `chunks` and `content` already. */
  | ({ readonly type: "reset" } & Omit<Reset, "reason"> & {
        readonly reason: Reset["reason"] | "INCONSISTENT";
      })
  | ({ readonly type: "takeover" } & Takeover)
  | ({ readonly type: "status" } & Status)
  | ({ readonly type: "recovery" } & Recovery)
  /** The last event of an answer, unless it is `error`. */
  | { readonly type: "complete"; readonly seal: Seal }
  /** The last event of an answer that got no seal here. */
  | { readonly type: "error"; readonly error: ChatError };

/** Listeners of an answer, by {@link AnswerEvent} type. */
export type AnswerEvents = { [E in AnswerEvent as E["type"]]: E };

/**
 * `pending` sent, not yet accepted · `waiting` accepted, the upstream is silent · `live` ·
 * `paused` the store is away, it goes on by itself · `cancelling` ·
 * `completed`, `failed`, `cancelled` sealed · `error` ended here without a seal · `unfollowed`.
 */
export type AnswerState =
  | "pending"
  | "waiting"
  | "live"
  | "paused"
  | "cancelling"
  | "completed"
  | "failed"
  | "cancelled"
  | "error"
  | "unfollowed";

/** What was seen of an answer, and whether it fits. */
export interface AnswerStats {
  /** Chunks held. */
  readonly chunks: number;
  /** Chunks that came again and were dropped. */
  readonly duplicates: number;
  /** Times that chunks were missing; they were asked for again and nothing was shown before. */
  readonly gaps: number;
  /** Times that the server's digest was another than ours; the text was read again. */
  readonly mismatches: number;
  /** RECONNECTs answered. */
  readonly recoveries: number;
  readonly resets: number;
  readonly takeovers: number;
  /** Digest of everything held; undefined where the part before the cursor is not known. */
  readonly digest: string | undefined;
  /** Whether it equals the seal's, chunk count included; undefined before the end, or where ours is unknown. */
  readonly digestOk: boolean | undefined;
}

/** One answer. `for await (const event of answer)` begins with what is there already. */
export interface Answer extends AsyncIterable<AnswerEvent> {
  /** Of {@link ChatClient.send}. */
  readonly requestId: string | undefined;
  /** Known when accepted. */
  readonly messageId: string | undefined;
  /** Known when accepted; of a followed answer, when it is complete. */
  readonly conversationId: string | undefined;
  /** Fulfilled when the request is in the log, or the followed answer was found. */
  readonly accepted: Promise<Accepted>;
  /** Fulfilled with the seal, whatever it says; rejected with a {@link ChatError} where there is none. */
  readonly done: Promise<Seal>;
  /** Index of `chunks[0]`: 0 unless followed from a cursor without chunks. */
  readonly base: number;
  /** Held, in order. */
  readonly chunks: readonly Chunk[];
  /** TEXT and CODE chunks of `chunks`, joined. */
  readonly content: string;
  readonly state: AnswerState;
  readonly stats: AnswerStats;
  /** To go on later, in another page or process: `client.follow(messageId, snapshot)`. */
  snapshot(): Snapshot;
  /** Listens to one type of event; what happened before is not repeated. */
  on<K extends keyof AnswerEvents>(type: K, listener: Listener<AnswerEvents[K]>): Unsubscribe;
  /** Asks for its end, again on every new socket until it has ended. The seal tells. */
  cancel(): void;
  /** Stops following; the answer goes on without this client. `done` is rejected with UNFOLLOWED. */
  unfollow(): void;
}
