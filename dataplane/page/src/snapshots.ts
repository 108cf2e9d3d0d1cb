// Where the reader stood in a live answer, kept over a reload of this tab: the cursor for RECONNECT and
// the chunks before it. What does not fit is read again from the start.

import type { Snapshot } from "@chatcluster/client";

const PREFIX = "chatcluster.snapshot.";
/** Of one snapshot; a tab has about 5 MB. */
const MAX_CHARACTERS = 1_000_000;

export function keep(messageId: string, snapshot: Snapshot): void {
  try {
    const text = JSON.stringify(snapshot);
    if (text.length <= MAX_CHARACTERS) sessionStorage.setItem(PREFIX + messageId, text);
    else drop(messageId);
  } catch {
    drop(messageId);
  }
}

export function kept(messageId: string): Snapshot | undefined {
  try {
    const read = JSON.parse(sessionStorage.getItem(PREFIX + messageId) ?? "null") as Snapshot | null;
    const whole = read?.chunks !== undefined && read.chunks.length === read.lastChunkIndex + 1;
    return read && whole && read.lastChunkIndex >= 0 ? read : undefined;
  } catch {
    return undefined;
  }
}

export function drop(messageId: string): void {
  try {
    sessionStorage.removeItem(PREFIX + messageId);
  } catch {
    // Storage is forbidden: then nothing was kept either.
  }
}
