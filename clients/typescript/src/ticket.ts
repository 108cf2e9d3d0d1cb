// A single-use ticket instead of the token in the handshake: its HTTP answer says why, where a refused
// WebSocket of a browser only says 1006.

import type { DialFailure } from "./connector.js";

/** Longest pause that a server may ask for, in milliseconds. */
const LONGEST_PAUSE_MS = 60_000;

/** The ticket, or why there is none. Never rejects. */
export async function requestTicket(
  fetcher: typeof fetch,
  url: string,
  token: string,
  signal: AbortSignal,
): Promise<string | DialFailure> {
  try {
    const response = await fetcher(url, {
      method: "POST",
      headers: { authorization: `Bearer ${token}` },
      signal,
    });
    const body: unknown = await response.json().catch(() => undefined);
    const fields = typeof body === "object" && body !== null ? (body as Record<string, unknown>) : {};
    const ticket = fields["ticket"];
    if (response.ok && typeof ticket === "string") return ticket;
    return failure(url, response, fields);
  } catch (error) {
    return { why: `${new URL(url).origin} cannot be reached: ${String(error)}`, blame: "passing" };
  }
}

function failure(url: string, response: Response, problem: Record<string, unknown>): DialFailure {
  const { status } = response;
  const what = [problem["code"], problem["title"]].filter((part) => typeof part === "string").join(": ");
  const why = `${new URL(url).origin} refused with HTTP ${status}${what === "" ? "" : ` (${what})`}`;
  if (status === 401) return { why, blame: "token" };
  if (status === 403) return { why, blame: "refused" };
  const asked = problem["retryAfterMs"] ?? 1_000 * Number(response.headers.get("retry-after") ?? 0);
  const retryAfterMs = typeof asked === "number" && asked >= 0 ? Math.min(asked, LONGEST_PAUSE_MS) : 0;
  return { why, blame: "passing", retryAfterMs };
}
