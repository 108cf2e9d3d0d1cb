// What a client is made with, and what it tells.

import type { Chunk, ChatOptions, ClientFrame, Cursor, ErrorData, Goaway, ServerFrame } from "./frames.js";

/** The part of a WebSocket that is used: the browser's, Node's (22 and later), and `ws` fit. */
export interface WebSocketLike {
  readonly readyState: number;
  // Event types differ between implementations; only `data`, `code` and `reason` are read.
  onopen: ((event: any) => void) | null;
  onmessage: ((event: any) => void) | null;
  onerror: ((event: any) => void) | null;
  onclose: ((event: any) => void) | null;
  send(data: string): void;
  close(code?: number, reason?: string): void;
  /** Of `ws`: drops a peer that does not answer. */
  terminate?(): void;
}

export type WebSocketConstructor = new (url: string, protocols?: string[]) => WebSocketLike;

/** Time, for tests. `now` is in milliseconds and never goes back. */
export interface Clock {
  now(): number;
  setTimeout(callback: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
}

export interface ClientOptions {
  /**
   * Nodes or load balancers: `wss://chat.example/ws/chat`, or `https://chat.example`, which means the
   * same. One is chosen by chance (`first` excepted); after a failure another one.
   */
  readonly urls: string | readonly string[];
  /**
   * The JWT, or what fetches one: called for every connection and before the old token expires. It may
   * fail; the client tries again. A `ChatError` with code UNAUTHENTICATED means: logged out, stop.
   */
  readonly token: string | (() => string | Promise<string>);
  /** Whose session; absent: the server makes one. Any UUID. */
  readonly sessionId?: string | undefined;
  /** Index in `urls` to begin with; absent: by chance. */
  readonly first?: number | undefined;
  /** Stop when no socket was open for so long; absent: never. */
  readonly giveUpAfterMs?: number | undefined;
  /** Needed where there is no global one: Node 20 (`import { WebSocket } from "ws"`). */
  readonly WebSocket?: WebSocketConstructor | undefined;
  /** For tickets; absent: the global one. */
  readonly fetch?: typeof fetch | undefined;
  readonly clock?: Clock | undefined;
  /** In [0, 1). */
  readonly random?: (() => number) | undefined;
}

export interface SendRequest {
  /** 1–10,000 characters. */
  readonly content: string;
  /** Absent: a new conversation. */
  readonly conversationId?: string | undefined;
  readonly options?: ChatOptions | undefined;
  /** `cancel`: the answer ends when nobody has followed it for 30 s. Default `continue`. */
  readonly onDisconnect?: "continue" | "cancel" | undefined;
  /** 1–64 visible ASCII characters; absent: one is made. The same one again starts nothing twice. */
  readonly requestId?: string | undefined;
}

/** A {@link Cursor} and, where they were kept, all chunks up to it (then `content` is whole). */
export interface Snapshot extends Cursor {
  readonly chunks?: readonly Chunk[];
}

/** How the connection stands. While a socket is replaced by another one it stays `open`. */
export type ConnectionState =
  | { readonly kind: "idle" }
  | { readonly kind: "connecting"; readonly url: string; readonly attempt: number }
  | {
      readonly kind: "open";
      readonly node: string;
      readonly url: string;
      readonly sessionId: string;
      readonly tookMs: number;
    }
  /** No socket; the next attempt begins in `inMs`. */
  | { readonly kind: "reconnecting"; readonly inMs: number; readonly attempt: number; readonly why: string }
  /** `final`: the client has stopped. Otherwise `reconnecting` follows at once. */
  | { readonly kind: "closed"; readonly code: number; readonly reason: string; readonly final: boolean };

/** One frame, as it went over a socket. Tokens are replaced by `…`. */
export interface FrameRecord {
  readonly direction: "in" | "out";
  /** Number of the socket, from 1: during a move there are two. */
  readonly socket: number;
  /** Node of that socket; undefined before WELCOME. */
  readonly node: string | undefined;
  /** The frame's type; `(unreadable)` for what is no frame. */
  readonly type: string;
  /** Length of the text message in UTF-8. */
  readonly bytes: number;
  /** Milliseconds since 1970. */
  readonly at: number;
  /** The frame; of an unknown or unreadable one only what it said. */
  readonly frame: ServerFrame | ClientFrame | { readonly type: string; readonly data?: unknown };
}

export interface ClientEvents {
  /** Every change of {@link ChatClient.state}. */
  state: ConnectionState;
  /** Every frame in both directions, before it is acted on. */
  frame: FrameRecord;
  /** The node goes away; the next socket is opened first. */
  goaway: Goaway;
  /** A refusal that ended nothing, or that is tried again. */
  warning: ErrorData;
}

/** Counts of the client since it was made. */
export interface ClientStats {
  /** Sockets that were welcomed. */
  readonly connections: number;
  /** Connections after the first. */
  readonly reconnects: number;
  /** GOAWAY frames. */
  readonly goaways: number;
  /** Messages that were no frames. */
  readonly unreadable: number;
  /** Frames of types that this version does not know; they are ignored. */
  readonly unknown: number;
  /** From the last HEARTBEAT to its answer, in milliseconds. */
  readonly rttMs: number | undefined;
}
