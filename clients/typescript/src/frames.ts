// The wire of docs/protocol.md, dialect v1, as types: what a server says and what a client says.

/** Kind of a chunk. The content of an answer is its TEXT and CODE chunks in order. */
export type ChunkType = "TEXT" | "CODE" | "THINKING" | "TOOL_USE" | "CITATION";

/** One piece of an answer: never empty, at most 1,024 characters. */
export interface Chunk {
  readonly type: ChunkType;
  readonly content: string;
  /** For example `{callId, name}` of a TOOL_USE chunk. */
  readonly metadata?: unknown;
}

/** Why something was refused or failed: the table of protocol section 5. */
export type ErrorCode =
  | "INVALID_JSON"
  | "UNKNOWN_TYPE"
  | "INVALID_MESSAGE"
  | "UNAUTHENTICATED"
  | "TOKEN_EXPIRED"
  | "FORBIDDEN"
  | "NOT_FOUND"
  | "EXPIRED"
  | "RATE_LIMITED"
  | "PAYLOAD_TOO_LARGE"
  | "AT_CAPACITY"
  | "DRAINING"
  | "UPSTREAM_UNAVAILABLE"
  | "UPSTREAM_ERROR"
  | "STREAM_TIMEOUT"
  | "INTERRUPTED"
  | "STORE_UNAVAILABLE"
  | "RESET"
  | "INTERNAL"
  | "STALE_EPOCH";

/** First frame of a socket, and the answer to AUTH. */
export interface Welcome {
  readonly sessionId: string;
  readonly userId: string;
  readonly serverTime: string;
  readonly protocol: string;
  /** The node's name. */
  readonly node: string;
  /** How often a HEARTBEAT is sent, in milliseconds. */
  readonly heartbeatMs: number;
  readonly maxContentChars: number;
  /** Chunks of so many milliseconds travel together. */
  readonly coalesceMs: number;
  readonly tokenExpiresAt: string;
  readonly resumeToken: string;
}

/** Request and stream are in the log. */
export interface Accepted {
  /** Absent for {@link ChatClient.follow}. */
  readonly requestId?: string;
  /** Absent for {@link ChatClient.follow}. */
  readonly conversationId?: string;
  /** Absent for {@link ChatClient.follow}. */
  readonly userMessageId?: string;
  readonly messageId: string;
  /** The requestId was known: this is the first request's answer. */
  readonly duplicate: boolean;
}

/** How an answer ended. */
export interface Seal {
  readonly messageId: string;
  readonly conversationId: string;
  readonly status: "completed" | "failed" | "cancelled";
  /** Chunks in the log. */
  readonly totalChunks: number;
  /** Of the whole log. */
  readonly digest: string;
  /** For example `stop`, `length`, `tool_use`. */
  readonly finishReason: string;
  readonly model: string;
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number };
  /** From acceptance to the seal. */
  readonly latencyMs: number;
  /** From acceptance to the first chunk. */
  readonly firstTokenMs: number | null;
  /** Why it failed. */
  readonly code?: ErrorCode;
  /** Of a failure: ask again with a new request. */
  readonly retryable?: boolean;
}

/** What a RECONNECT found; precedes the missing chunks. */
export interface Recovery {
  readonly messageId: string;
  readonly status: "RECOVERED" | "COMPLETED" | "NOT_FOUND" | "EXPIRED" | "ERROR";
  /** First index that is sent. */
  readonly from: number;
  /** First unwritten index. */
  readonly tail: number;
  readonly epoch: number;
  readonly live: boolean;
  /** Of the log before `from`. */
  readonly digest: string;
  readonly source: "memory" | "cache" | "database";
}

/** Indexes ≥ `truncateTo` are void; chunks follow from there. */
export interface Reset {
  readonly messageId: string;
  readonly reason: "ROLLED_BACK" | "RESTARTED";
  readonly truncateTo: number;
  readonly epoch: number;
}

/** Another node owns the answer now. */
export interface Takeover {
  readonly messageId: string;
  readonly epoch: number;
  /** First index of the new owner. */
  readonly from: number;
  readonly mode: "finish" | "provider_resume" | "continue" | "restart" | "fail";
}

/** How a live answer stands. `paused`: the log is away, nothing is lost, it goes on by itself. */
export interface Status {
  readonly messageId: string;
  readonly state: "waiting" | "paused" | "live" | "cancelling" | "sealed";
  readonly reason?: ErrorCode;
}

/** The node goes away: the client opens its next socket before this one is closed. */
export interface Goaway {
  readonly reason: string;
  readonly deadlineMs: number;
  readonly reconnectAfterMs: number;
  readonly resumeToken: string;
}

/** A refusal or failure. */
export interface ErrorData {
  /** For people. */
  readonly error: string;
  readonly code: ErrorCode;
  readonly retryable: boolean;
  readonly retryAfterMs?: number;
  readonly requestId?: string;
  readonly messageId?: string;
  /** It ends the follow of `messageId`, and only that. */
  readonly final?: boolean;
}

/** CHUNK and CHUNKS alike: consecutive chunks of one epoch, the k-th has index `index` + k. */
export interface Chunks {
  readonly messageId: string;
  readonly index: number;
  readonly epoch: number;
  readonly chunks: readonly Chunk[];
}

/** Everything a server may say that this client acts on. */
export type ServerFrame =
  | { readonly type: "WELCOME"; readonly data: Welcome }
  | {
      readonly type: "ACCEPTED";
      readonly data: Required<Omit<Accepted, "requestId">> & Pick<Accepted, "requestId">;
    }
  | { readonly type: "CHUNK" | "CHUNKS"; readonly data: Chunks }
  | { readonly type: "COMPLETE"; readonly data: Seal }
  | { readonly type: "RECOVERY"; readonly data: Recovery }
  | { readonly type: "RESET"; readonly data: Reset }
  | { readonly type: "TAKEOVER"; readonly data: Takeover }
  | { readonly type: "STATUS"; readonly data: Status }
  | { readonly type: "GOAWAY"; readonly data: Goaway }
  | { readonly type: "TOKEN_EXPIRING"; readonly data: { readonly expiresAt: string } }
  | { readonly type: "HEARTBEAT_ACK"; readonly data: { readonly t?: unknown } }
  | { readonly type: "ERROR"; readonly data: ErrorData };

/** What the model gets. */
export interface ChatOptions {
  readonly model?: string;
  /** 0–2. */
  readonly temperature?: number;
  /** At least 1. */
  readonly maxTokens?: number;
}

/** Where a reader stands in an answer. Survives a page reload as JSON. */
export interface Cursor {
  /** -1: nothing was received. */
  readonly lastChunkIndex: number;
  /** Of the last chunk received. */
  readonly epoch?: number;
  /** Of everything up to the last chunk received. */
  readonly digest?: string;
}

/** What a client says. */
export type ClientFrame =
  | {
      readonly type: "CHAT_REQUEST";
      readonly content: string;
      readonly conversationId?: string;
      readonly requestId: string;
      readonly options?: ChatOptions;
      readonly onDisconnect?: "continue" | "cancel";
    }
  | ({ readonly type: "RECONNECT"; readonly messageId: string } & Cursor)
  | { readonly type: "UNFOLLOW"; readonly messageId: string }
  | { readonly type: "CANCEL_STREAM"; readonly messageId: string }
  | { readonly type: "AUTH"; readonly token: string }
  | { readonly type: "HEARTBEAT"; readonly t?: number };
