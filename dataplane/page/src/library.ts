// The reader's conversations, in this browser until there is a database: ids, titles and the reader's
// own questions. Answers are only named; their text is read from the nodes.

/** One question and the answers to it: a regenerate adds one. */
export interface Turn {
  readonly question: string;
  answers: AnswerEntry[];
  /** Which of them is shown. */
  shown: number;
}

export interface AnswerEntry {
  readonly requestId: string;
  /** Known when accepted. */
  messageId?: string;
}

export interface Conversation {
  readonly id: string;
  title: string;
  /** Given by the reader: not to be made from the first question any more. */
  named?: boolean;
  readonly createdAt: number;
  updatedAt: number;
  turns: Turn[];
}

const PREFIX = "chatcluster.conversation.";
/** The oldest goes first. */
const MAX_CONVERSATIONS = 100;
const MAX_TITLE = 60;

export class Library {
  readonly #storage: Storage;
  readonly #prefix: string;
  /** The list is asked for at every drawing, and changes rarely. */
  #listed: Conversation[] | undefined;

  /** Each user's own, where several share a browser. */
  constructor(storage: Storage, user: string) {
    this.#storage = storage;
    this.#prefix = `${PREFIX}${encodeURIComponent(user)}.`;
  }

  /** Newest first. */
  list(): Conversation[] {
    return (this.#listed ??= this.#read());
  }

  #read(): Conversation[] {
    const keys = Array.from({ length: this.#storage.length }, (_, at) => this.#storage.key(at) ?? "");
    const known = keys.filter((key) => key.startsWith(this.#prefix)).map((key) => this.get(key.slice(this.#prefix.length)));
    return known.filter((one) => one !== undefined).sort((a, b) => b.updatedAt - a.updatedAt);
  }

  get(id: string): Conversation | undefined {
    try {
      const read = JSON.parse(this.#storage.getItem(this.#prefix + id) ?? "null") as Conversation | null;
      return read && typeof read.title === "string" && Array.isArray(read.turns) ? read : undefined;
    } catch {
      return undefined;
    }
  }

  create(): Conversation {
    const now = Date.now();
    return { id: crypto.randomUUID(), title: "New conversation", createdAt: now, updatedAt: now, turns: [] };
  }

  /** Whoever shows it takes over what another tab has added (see `Chat.refresh`), so nothing is overwritten. */
  save(conversation: Conversation): void {
    const first = conversation.turns[0];
    if (!conversation.named && first) conversation.title = titleOf(first.question);
    this.#listed = undefined;
    try {
      this.#storage.setItem(this.#prefix + conversation.id, JSON.stringify(conversation));
      for (const old of this.list().slice(MAX_CONVERSATIONS)) this.remove(old.id);
    } catch {
      // Full or forbidden: the conversation still lives as long as the page.
    }
  }

  remove(id: string): void {
    this.#listed = undefined;
    this.#storage.removeItem(this.#prefix + id);
  }

  /** Which conversation a message is an answer in. */
  holding(messageId: string): Conversation | undefined {
    return this.list().find((one) => one.turns.some((turn) => turn.answers.some((answer) => answer.messageId === messageId)));
  }

  /** Calls back when another tab has changed something. */
  onForeignChange(callback: () => void): void {
    addEventListener("storage", (event) => {
      if (event.key === null || event.key.startsWith(this.#prefix)) {
        this.#listed = undefined;
        callback();
      }
    });
  }
}

/** The simulated provider's directive is no part of what was asked. */
export function withoutDirective(question: string): { directive: string | undefined; text: string } {
  const match = /^\[sim([^\]]*)\]\s*/.exec(question);
  return match ? { directive: (match[1] ?? "").trim(), text: question.slice(match[0].length) } : { directive: undefined, text: question };
}

export function titleOf(question: string): string {
  const { text, directive } = withoutDirective(question);
  const line = (text || directive || "").replace(/\s+/g, " ").trim();
  return line.length > MAX_TITLE ? `${line.slice(0, MAX_TITLE - 1).trimEnd()}…` : line || "New conversation";
}
