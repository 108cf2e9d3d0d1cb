// What a frame inspector sees of a frame: everything but the secrets. Pure.

import type { ClientFrame } from "./frames.js";
import type { FrameRecord } from "./options.js";
import type { Parsed } from "./parse.js";

const HIDDEN = "…";
const UTF8 = new TextEncoder();

type Where = Pick<FrameRecord, "socket" | "node" | "at">;

export function recordOut(frame: ClientFrame, text: string, where: Where): FrameRecord {
  const shown = frame.type === "AUTH" ? { ...frame, token: HIDDEN } : frame;
  return { direction: "out", type: frame.type, bytes: UTF8.encode(text).length, frame: shown, ...where };
}

export function recordIn(parsed: Parsed, message: unknown, where: Where): FrameRecord {
  const bytes = typeof message === "string" ? UTF8.encode(message).length : 0;
  if (parsed.kind === "unreadable") {
    const type = "(unreadable)";
    return { direction: "in", type, bytes, frame: { type }, ...where };
  }
  if (parsed.kind === "unknown") {
    const { type, data } = parsed;
    return { direction: "in", type, bytes, frame: { type, data }, ...where };
  }
  const { frame } = parsed;
  const node = frame.type === "WELCOME" ? frame.data.node : where.node;
  const shown =
    "resumeToken" in frame.data ? { ...frame, data: { ...frame.data, resumeToken: HIDDEN } } : frame;
  return { direction: "in", type: frame.type, bytes, frame: shown as typeof frame, ...where, node };
}
