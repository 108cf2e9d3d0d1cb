// What the owner of a client may ask for, checked before it is sent: a server answers a bad id without
// saying whose it was. Pure but for the ids that it makes.

import { EMPTY, digestToHex, digestWith } from "./digest.js";
import type { Snapshot, SendRequest } from "./options.js";
import type { ChatRequest } from "./requests.js";

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const REQUEST_ID = /^[\x21-\x7e]{1,64}$/;
/** Longest content, in characters. */
const MAX_CONTENT_CHARS = 10_000;

/** The frame of a request. Throws a TypeError for what no server takes. */
export function checkedRequest(request: SendRequest): ChatRequest {
  const content = request.content.trim();
  // Counted in characters, not in UTF-16 units, as the server does.
  const chars = content.length > MAX_CONTENT_CHARS ? [...content].length : content.length;
  if (chars < 1 || chars > MAX_CONTENT_CHARS)
    throw new TypeError(`content: 1 to ${MAX_CONTENT_CHARS} characters, got ${chars}`);
  const requestId = request.requestId ?? newRequestId();
  if (!REQUEST_ID.test(requestId)) throw new TypeError("requestId: 1 to 64 visible ASCII characters");
  const { conversationId, options, onDisconnect } = request;
  return {
    type: "CHAT_REQUEST",
    content,
    requestId,
    ...(conversationId === undefined
      ? {}
      : { conversationId: checkedUuid("conversationId", conversationId) }),
    ...(options === undefined ? {} : { options }),
    ...(onDisconnect === undefined ? {} : { onDisconnect }),
  };
}

/** A UUID as servers write it. Throws a TypeError for anything else. */
export function checkedUuid(field: string, text: string): string {
  if (!UUID.test(text)) throw new TypeError(`${field}: a UUID is expected, got ${JSON.stringify(text)}`);
  return text.toLowerCase();
}

/** Where to begin. Throws a TypeError where cursor and chunks do not fit each other. */
export function checkedFollow(from: Snapshot | undefined): Snapshot | undefined {
  if (from === undefined) return undefined;
  const { lastChunkIndex, chunks } = from;
  if (!Number.isSafeInteger(lastChunkIndex) || lastChunkIndex < -1)
    throw new TypeError("lastChunkIndex: -1 or an index");
  if (chunks !== undefined && chunks.length !== lastChunkIndex + 1) {
    throw new TypeError(`chunks: all ${lastChunkIndex + 1} up to lastChunkIndex, or none`);
  }
  // What will be shown is what is vouched for: the server compares it with its own text.
  if (chunks !== undefined && chunks.length > 0)
    return { ...from, digest: digestToHex(chunks.reduce(digestWith, EMPTY)) };
  return from;
}

function newRequestId(): string {
  // Not randomUUID: browsers have that only on secure origins.
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
