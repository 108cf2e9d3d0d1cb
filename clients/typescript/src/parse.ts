// From a text message to a frame. Whatever comes, it gives a frame whose fields that matter are of
// their types, or says that there is none; it never throws. Pure.

import type { ServerFrame } from "./frames.js";

export type Parsed =
  | { readonly kind: "frame"; readonly frame: ServerFrame }
  /** A type of a later version: to be ignored. */
  | { readonly kind: "unknown"; readonly type: string; readonly data: unknown }
  | { readonly kind: "unreadable" };

type Fields = Record<string, unknown>;
type Check = (value: unknown) => boolean;

const text: Check = (value) => typeof value === "string";
const yes: Check = (value) => typeof value === "boolean";
const count: Check = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
const amount: Check = (value) => typeof value === "number" && Number.isFinite(value) && value >= 0;
const digest: Check = (value) => typeof value === "string" && /^[0-9a-f]{8}$/i.test(value);
const chunk: Check = (value) =>
  isObject(value) && text(value["type"]) && text(value["content"]) && value["content"] !== "";
const chunks: Check = (value) => Array.isArray(value) && value.every(chunk);
const maybe =
  (check: Check): Check =>
  (value) =>
    value === undefined || value === null || check(value);
const oneOf =
  (...names: string[]): Check =>
  (value) =>
    names.includes(value as string);

/** What the session machine reads of each frame. */
const SHAPES = new Map<string, Record<string, Check>>(
  Object.entries({
    WELCOME: { sessionId: text, node: text, heartbeatMs: amount, resumeToken: text },
    ACCEPTED: { messageId: text, conversationId: text, requestId: maybe(text) },
    CHUNK: { messageId: text, index: count, epoch: count, type: text, content: text },
    CHUNKS: { messageId: text, index: count, epoch: count, chunks },
    COMPLETE: {
      messageId: text,
      conversationId: text,
      status: oneOf("completed", "failed", "cancelled"),
      totalChunks: count,
      digest,
    },
    RECOVERY: { messageId: text, status: text, from: count, tail: count, epoch: count, digest },
    RESET: { messageId: text, truncateTo: count, epoch: count },
    TAKEOVER: { messageId: text, epoch: count },
    STATUS: { messageId: text, state: text },
    GOAWAY: { reconnectAfterMs: amount, resumeToken: text },
    TOKEN_EXPIRING: {},
    HEARTBEAT_ACK: {},
    ERROR: {
      code: text,
      retryable: yes,
      retryAfterMs: maybe(amount),
      requestId: maybe(text),
      messageId: maybe(text),
    },
  }),
);

/** Reads one message of a server. */
export function parse(message: unknown): Parsed {
  const top = readJson(message);
  const type = top?.["type"];
  if (top === undefined || typeof type !== "string") return { kind: "unreadable" };
  const shape = SHAPES.get(type);
  if (shape === undefined) return { kind: "unknown", type, data: top["data"] };
  const data = top["data"];
  if (!isObject(data)) return { kind: "unreadable" };
  for (const [field, fits] of Object.entries(shape)) {
    if (!fits(Object.hasOwn(data, field) ? data[field] : undefined)) return { kind: "unreadable" };
  }
  return { kind: "frame", frame: { type, data: refine(type, data, top) } as ServerFrame };
}

/** One shape for CHUNK and CHUNKS; the text of an ERROR beside its code. */
function refine(type: string, data: Fields, top: Fields): Fields {
  if (type === "CHUNK") {
    const { messageId, index, epoch, type: kind, content, metadata } = data;
    const one = metadata === undefined ? { type: kind, content } : { type: kind, content, metadata };
    return { messageId, index, epoch, chunks: [one] };
  }
  if (type === "ERROR") return { ...data, error: text(top["error"]) ? top["error"] : data["code"] };
  return data;
}

function readJson(message: unknown): Fields | undefined {
  if (typeof message !== "string") return undefined;
  try {
    const value: unknown = JSON.parse(message);
    return isObject(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
