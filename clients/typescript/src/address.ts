// From what the owner of a client gives as a URL to what is dialled. Pure.

const SOCKET_PATH = "/ws/chat";
const TICKET_PATH = "/api/v1/tickets";
const SCHEMES: Record<string, string> = { "http:": "ws:", "https:": "wss:", "ws:": "ws:", "wss:": "wss:" };

/** One node or load balancer. */
export interface Address {
  /** Of the socket, without this client's own query. */
  readonly socket: string;
  /** Where tickets are given. */
  readonly tickets: string;
}

/** Throws a TypeError for what is no URL of a server. */
export function address(given: string): Address {
  const url = new URL(given);
  const scheme = SCHEMES[url.protocol];
  if (scheme === undefined) throw new TypeError(`${given}: expected ws, wss, http or https`);
  const path = url.pathname.replace(/\/+$/, "");
  const base = path.endsWith(SOCKET_PATH) ? path.slice(0, -SOCKET_PATH.length) : path;
  const socketPath = path === "" ? SOCKET_PATH : path;
  return {
    socket: `${scheme}//${url.host}${socketPath}${url.search}`,
    tickets: `${scheme.replace("ws", "http")}//${url.host}${base}${TICKET_PATH}`,
  };
}

/** The socket's URL with what this connection says of itself. */
export function socketUrl(of: Address, sessionId: string | undefined, ticket: string | undefined): string {
  const url = new URL(of.socket);
  if (sessionId !== undefined) url.searchParams.set("sessionId", sessionId);
  if (ticket !== undefined) url.searchParams.set("ticket", ticket);
  return url.href;
}
