// The way to a socket: token, perhaps a ticket, then URL and subprotocols.

import { type Address, socketUrl } from "./address.js";
import type { DialFailure } from "./connector.js";
import type { Dial } from "./effect.js";
import { ChatError } from "./errors.js";
import { requestTicket } from "./ticket.js";

const SUBPROTOCOL = "chatcluster.v1";

/** What to open. */
export interface Target {
  readonly url: string;
  readonly protocols: string[];
}

export interface DialTools {
  readonly address: Address;
  readonly token: () => Promise<string>;
  readonly fetch: typeof fetch;
  /** Aborted: nobody waits for it any more. */
  readonly signal: AbortSignal;
  /** The token is there. */
  readonly opening: () => void;
}

/** Never rejects. */
export async function prepare(dial: Dial, tools: DialTools): Promise<Target | DialFailure> {
  let token: string;
  try {
    token = await tools.token();
  } catch (error) {
    const blame = error instanceof ChatError && error.code === "UNAUTHENTICATED" ? "user" : "passing";
    return { why: `no token: ${error instanceof Error ? error.message : String(error)}`, blame };
  }
  tools.opening();
  const resume = dial.resume === undefined ? [] : [`resume.${dial.resume}`];
  if (!dial.ticket) {
    const url = socketUrl(tools.address, dial.sessionId, undefined);
    return { url, protocols: [SUBPROTOCOL, `bearer.${token}`, ...resume] };
  }
  const ticket = await requestTicket(tools.fetch, tools.address.tickets, token, tools.signal);
  if (typeof ticket !== "string") return ticket;
  return { url: socketUrl(tools.address, dial.sessionId, ticket), protocols: [SUBPROTOCOL, ...resume] };
}
