// Chaos: which fault comes next, so that at least one node that can take over always serves, and what
// it broke is started again. Pure; `chaos_runner.ts` does it.

import type { NodePhase } from "./dev.js";

export interface ChaosNode {
  readonly name: string;
  readonly phase: NodePhase;
  /** Milliseconds that it has been serving, as far as the page knows. */
  readonly servingFor: number;
  /** Milliseconds that it has been down or draining. */
  readonly downFor: number;
  /** Followed answers are written there. */
  readonly writes: boolean;
  /** The page's socket is there. */
  readonly reads: boolean;
}

export type ChaosAct =
  | { readonly do: "kill" | "drain" | "start"; readonly node: string }
  | { readonly do: "pause"; readonly node: string; readonly ms: number };

/** A node may take answers over when it has seen the store for a whole lease of 5 s. */
const CAN_TAKE_OVER_MS = 6_000;
/** So long what was broken stays broken. */
const DOWN_MS = 2_500;
/** Longer than a pause that nobody notices, shorter than one that costs the lease. */
const PAUSE_MS = 1_500;

/** Between two acts, in milliseconds. */
export function pace(random: () => number): number {
  return 1_200 + Math.floor(random() * 2_000);
}

/** What to do now; undefined: nothing, somebody is still getting over the last one. */
export function next(nodes: readonly ChaosNode[], waiting: boolean, random: () => number): ChaosAct | undefined {
  const down = nodes.filter((node) => (node.phase === "dead" || node.phase === "done") && node.downFor >= DOWN_MS);
  const [oldest] = down.sort((a, b) => b.downFor - a.downFor);
  if (oldest) return { do: "start", node: oldest.name };
  // A takeover is under way: another fault now would only hide how long it takes.
  if (waiting) return undefined;
  const able = nodes.filter((node) => node.phase === "serving" && node.servingFor >= CAN_TAKE_OVER_MS);
  const target = choose(able, random);
  // Somebody else must be able to go on.
  if (!target || able.length < 2) return undefined;
  const dice = random();
  if (dice < 0.5) return { do: "kill", node: target.name };
  if (dice < 0.8) return { do: "drain", node: target.name };
  return { do: "pause", node: target.name, ms: PAUSE_MS };
}

/** Mostly where it hurts. */
function choose(nodes: readonly ChaosNode[], random: () => number): ChaosNode | undefined {
  const wanted = random();
  const writers = nodes.filter((node) => node.writes);
  const readers = nodes.filter((node) => node.reads);
  const among = wanted < 0.55 && writers.length ? writers : wanted < 0.85 && readers.length ? readers : nodes;
  return among[Math.floor(random() * among.length)];
}

/** What must be started again when chaos ends. */
export function mend(nodes: readonly ChaosNode[]): ChaosAct[] {
  return nodes.filter((node) => node.phase !== "serving").map((node) => ({ do: "start", node: node.name }));
}
