// What the session machine wants done. The client does it; tests read it.

import type { AnswerEvent } from "./answer.js";
import type { ChatError } from "./errors.js";
import type { Accepted, ClientFrame, Cursor, ErrorData, Goaway } from "./frames.js";
import type { Follow } from "./follow.js";
import type { ConnectionState } from "./options.js";

/** How to open a socket. */
export interface Dial {
  /** Its number, from 1. */
  readonly socket: number;
  /** Index of the address. */
  readonly address: number;
  readonly sessionId: string | undefined;
  /** Offered beside the token. */
  readonly resume: string | undefined;
  /** By a ticket instead of the token: its HTTP answer says why where a refused upgrade does not. */
  readonly ticket: boolean;
}

export type Effect =
  | ({ readonly kind: "dial" } & Dial)
  | { readonly kind: "send"; readonly socket: number; readonly frame: ClientFrame }
  /** Get a token and send AUTH. */
  | { readonly kind: "authenticate"; readonly socket: number }
  /** Say goodbye; `closed` is told. */
  | { readonly kind: "close"; readonly socket: number }
  /** Nobody answers there: nothing more is told of it. */
  | { readonly kind: "abandon"; readonly socket: number }
  | { readonly kind: "state"; readonly state: ConnectionState }
  | { readonly kind: "goaway"; readonly goaway: Goaway }
  | { readonly kind: "warning"; readonly error: ErrorData }
  | {
      readonly kind: "accepted";
      readonly accepted: Accepted & { readonly requestId: string };
      readonly follow: Follow;
    }
  | { readonly kind: "refused"; readonly requestId: string; readonly error: ChatError }
  /** Something happened to a followed answer; `cursor` is where its reader stands after it. */
  | { readonly kind: "tell"; readonly follow: Follow; readonly event: AnswerEvent; readonly cursor: Cursor };
