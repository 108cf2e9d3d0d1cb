// The playground's interface (protocol section 7): who is there, and what can be done to them.

export type NodePhase = "serving" | "refusing" | "handing_over" | "flushing" | "done" | "dead" | "paused";

export interface DevNode {
  readonly name: string;
  readonly baseUrl: string;
  readonly wsUrl: string;
  readonly adminUrl: string;
  readonly phase: NodePhase;
  readonly sessions: number;
  readonly streams: number;
}

/** One call of the provider: who wrote which part of an answer. */
export interface UpstreamCall {
  readonly messageId: string;
  readonly epoch: number;
  readonly node: string;
  readonly from: number;
}

export type NodeAct = "kill" | "drain" | "start" | "pause";
export type RedisAct = "restart" | "pause" | "kill-pubsub";

/** What a drain from this page asks for: time enough to see the hand-over. */
const DRAIN = { deadlineMs: 10_000, policy: "continue" };
/** A hanging playground is one that does not answer. */
const PATIENCE_MS = 4_000;

async function call(path: string, body?: unknown): Promise<unknown> {
  const init: RequestInit = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, { ...init, signal: AbortSignal.timeout(PATIENCE_MS) });
  if (!answer.ok) {
    const problem = (await answer.json().catch(() => ({}))) as { detail?: string };
    throw new Error(problem.detail ?? `${path}: ${answer.status}`);
  }
  return answer.status === 200 ? answer.json() : undefined;
}

export const dev = {
  nodes: () => call("/dev/nodes") as Promise<DevNode[]>,
  calls: () => call("/dev/upstream/calls") as Promise<UpstreamCall[]>,
  token: async (user: string) => ((await call(`/dev/token?user=${encodeURIComponent(user)}`)) as { token: string }).token,
  /** Whether the provider obeys `[sim …]`. */
  isSimulated: () => (call("/dev/upstream") as Promise<{ simulated: boolean }>).then((it) => it.simulated, () => true),
  /** Whether nodes are processes over a Redis of their own. */
  hasRedis: () => call("/dev/redis").then(() => true, () => false),
  node: (name: string, act: NodeAct, ms = 4_000) =>
    call(`/dev/nodes/${name}/${act}`, act === "drain" ? DRAIN : act === "pause" ? { ms } : {}),
  redis: (act: RedisAct, ms = 4_000) => call(`/dev/redis/${act}`, act === "pause" ? { ms } : {}),
};
