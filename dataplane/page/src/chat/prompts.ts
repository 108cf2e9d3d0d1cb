// What to ask for a demonstration. The simulated provider obeys a directive before the question.

export interface Prompt {
  readonly title: string;
  readonly about: string;
  readonly question: string;
  /** Without one the composer's own stays. */
  readonly directive?: string;
}

/** What a newcomer gets: a long text about what is being seen, slow enough to break something. */
export const DEFAULT_DIRECTIVE = "text=essay rate=40";

export const STARTERS: readonly Prompt[] = [
  { title: "Why does nothing get lost?", about: "A long answer, with time to break something", question: "Why is nothing lost when a server dies in the middle of an answer?", directive: DEFAULT_DIRECTIVE },
  { title: "Kill it while it thinks", about: "A long silence in the middle: 12 s", question: "Think for a while, then go on.", directive: "text=essay rate=40 pause=70:12000" },
  { title: "As fast as it can", about: "5,000 chunks without a pause", question: "Everything you have, at once.", directive: "tokens=5000 rate=0" },
  { title: "Code, thoughts and sources", about: "Every kind of chunk, mixed", question: "Show me everything that you can send.", directive: "tokens=400 rate=30 types=text,thinking,code,citation" },
];

export const DEMOS: readonly Prompt[] = [
  ...STARTERS,
  { title: "A slow one", about: "Ten words a second for a minute", question: "Take your time.", directive: "text=essay rate=10" },
  { title: "A tool call", about: "Arguments of a tool as they come", question: "Look something up.", directive: "tokens=48 rate=20 types=text,tool" },
  { title: "The provider breaks", about: "Fails after chunk 60: an honest error", question: "Break midway.", directive: "tokens=200 rate=40 fail=60" },
  { title: "Words of every script", about: "Emoji, quotes, back slashes, split nowhere", question: "Anything.", directive: "tokens=300 rate=60 seed=7" },
];

const QUESTION = /^\s*\[sim\b/;

/** What is sent: the directive and the question, unless the question brings its own. */
export function contentOf(question: string, directive: string | undefined): string {
  return directive === undefined || QUESTION.test(question) ? question.trim() : `[sim ${directive}] ${question.trim()}`;
}

/** The same text again would look like nothing had happened: each answer begins at another section. */
export function varied(content: string, nth: number): string {
  return content.replace(/^\[sim ([^\]]*\btext=essay\b[^\]]*)\]/, (whole, inside: string) => (/\bseed=/.test(inside) ? whole : `[sim ${inside} seed=${nth}]`));
}
