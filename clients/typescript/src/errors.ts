// The one error class of this package.

import type { ErrorCode } from "./frames.js";

/**
 * What this client itself has to say, beside the server's codes:
 * `CLOSED` the client was closed; `UNFOLLOWED` the answer was;
 * `CANCELLED` it was before its request was ever sent; `INCONSISTENT` the server's text and
 * digest did not fit repeatedly; `REFUSED` the server closed for good (see `closeCode`);
 * `UNREACHABLE` no node answered within `giveUpAfterMs`.
 */
export type ClientErrorCode =
  "CLOSED" | "UNFOLLOWED" | "CANCELLED" | "INCONSISTENT" | "REFUSED" | "UNREACHABLE";

/** Why an answer has no seal. Compare `code`, show `message`. */
export class ChatError extends Error {
  override readonly name = "ChatError";
  readonly code: ErrorCode | ClientErrorCode;
  /** Whether asking again, with a new request, may help. */
  readonly retryable: boolean;
  /** WebSocket close code, where that ended it. */
  readonly closeCode: number | undefined;

  constructor(code: ErrorCode | ClientErrorCode, message: string, retryable = false, closeCode?: number) {
    super(message);
    this.code = code;
    this.retryable = retryable;
    this.closeCode = closeCode;
  }
}
