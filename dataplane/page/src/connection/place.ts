// Where the page was served from: a playground with several nodes and /dev, or one node (or what
// balances several) that wants a token.

import { dev, type DevNode } from "../fleet/dev.js";

export interface Place {
  readonly kind: "playground" | "node";
  /** For the client. */
  readonly urls: readonly string[];
  /** For `/api`, best first. */
  bases(): string[];
  token(): Promise<string>;
  readonly nodes: readonly DevNode[];
  /** The provider obeys `[sim …]`, and an answer costs nothing. */
  readonly simulated: boolean;
  /** The store of the nodes is one that can be broken. */
  readonly hasRedis: boolean;
}

const USER_KEY = "chatcluster.user";
const TOKEN_KEY = "chatcluster.token";
/** Answers of `/api` that take longer are asked for elsewhere. */
const PATIENCE_MS = 4_000;

/** The playground's user; each has conversations of their own on the nodes. */
export function user(): string {
  return sessionStorage.getItem(USER_KEY) ?? localStorage.getItem(USER_KEY) ?? "alice";
}

export function setUser(name: string): void {
  localStorage.setItem(USER_KEY, name);
  sessionStorage.setItem(USER_KEY, name);
}

/** Asks the server that the page came from. */
export async function findPlace(askToken: (why: string) => Promise<string>): Promise<Place> {
  const nodes = await dev.nodes().catch(() => undefined);
  if (!nodes || nodes.length === 0) return node(askToken);
  const [simulated, hasRedis] = await Promise.all([dev.isSimulated(), dev.hasRedis()]);
  return playground(nodes, simulated, hasRedis);
}

function playground(nodes: readonly DevNode[], simulated: boolean, hasRedis: boolean): Place {
  return {
    kind: "playground",
    urls: nodes.map((one) => one.wsUrl),
    bases: () => nodes.map((one) => one.baseUrl),
    token: () => dev.token(user()),
    nodes,
    simulated,
    hasRedis,
  };
}

/** The pasted token stays in this tab's memory only as long as the tab. */
async function node(askToken: (why: string) => Promise<string>): Promise<Place> {
  let token = sessionStorage.getItem(TOKEN_KEY) ?? (await askToken(""));
  const good = async () => {
    for (;;) {
      const refused = await refusal(token);
      if (refused === undefined) break;
      token = await askToken(refused);
    }
    sessionStorage.setItem(TOKEN_KEY, token);
    return token;
  };
  await good();
  return { kind: "node", urls: [location.origin], bases: () => [location.origin], token: good, nodes: [], simulated: false, hasRedis: false };
}

/** Why the node does not take the token; undefined: it does, or cannot say now. */
async function refusal(token: string): Promise<string | undefined> {
  try {
    const headers = { authorization: `Bearer ${token}` };
    const answer = await fetch("/api/v1/sessions", { headers, signal: AbortSignal.timeout(PATIENCE_MS) });
    if (answer.status !== 401 && answer.status !== 403) return undefined;
    const problem = (await answer.json().catch(() => ({}))) as { title?: string; detail?: string };
    return problem.detail ?? problem.title ?? "The node does not accept this token.";
  } catch (error) {
    // A token that is no header value is no token either.
    return error instanceof TypeError && /header|ISO-8859-1|ByteString/i.test(error.message) ? "This is no token." : undefined;
  }
}

/** `GET /api/v1/messages/{id}` */
export interface StoredMessage {
  readonly status: "pending" | "streaming" | "completed" | "failed" | "cancelled";
  readonly content: string;
  readonly totalChunks: number;
  readonly digest: string;
}

/** Asks one node after the other; undefined where nobody has it or nobody answers. */
export async function storedMessage(place: Place, messageId: string): Promise<StoredMessage | undefined> {
  const token = await place.token().catch(() => "");
  for (const base of place.bases()) {
    try {
      const headers = { authorization: `Bearer ${token}` };
      const answer = await fetch(`${base}/api/v1/messages/${messageId}`, { headers, signal: AbortSignal.timeout(PATIENCE_MS) });
      if (answer.ok) return (await answer.json()) as StoredMessage;
      if (answer.status === 404 || answer.status === 410) return undefined;
    } catch {
      // That node is dead or paused: another one has the same text.
    }
  }
  return undefined;
}
