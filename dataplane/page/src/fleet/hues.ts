// Each node has a colour of its own, the same everywhere on the page.

const HUES = ["var(--node-1)", "var(--node-2)", "var(--node-3)", "var(--node-4)", "var(--node-5)", "var(--node-6)"];

/** `node-3` is always the third colour; an unknown one is grey. */
export function nodeHue(name: string | undefined): string {
  const number = /(\d+)$/.exec(name ?? "")?.[1];
  if (name === undefined || number === undefined) return "var(--node-none)";
  return HUES[(Number(number) - 1 + HUES.length) % HUES.length] ?? "var(--node-none)";
}
