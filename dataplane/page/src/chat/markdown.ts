// Markdown that grows. What can no longer change is put on the page once; only the last block is read
// again, at most once a frame and less often the longer it is, so that the work grows with the text and
// not with its square, and nothing that was read flickers.

import { Lexer, Marked, type Token, type Tokens, type TokensList } from "marked";
import { make } from "../dom.js";
import { CodeBlock } from "./code.js";
import { sanitised } from "./sanitise.js";

/** A paragraph longer than this is cut at a line's end: nobody wrote it as one. */
const LONGEST_PARAGRAPH = 3_000;
/** So many characters of the last block make the next reading wait a millisecond. */
const CHARACTERS_A_MS = 40;

const marked = new Marked({
  gfm: true,
  renderer: {
    // Loading a picture would tell its host who reads what: it is a link.
    image({ href, text }: Tokens.Image): string {
      return `<a href="${escaped(href)}">${escaped(text || href)}</a>`;
    },
  },
});

function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);
}

/** A fence that begins the text: what it says, and whether it is still open. */
const FENCE = /^ {0,3}(`{3,}|~{3,})([^\n`]*)(?:\n|$)/;

export class MarkdownStream {
  readonly element: HTMLElement = make("div", "markdown");
  #source = "";
  /** Read up to here for good. */
  #stable = 0;
  #tail: ChildNode[] = [];
  #fence: CodeBlock | undefined;
  #links: TokensList["links"] = Object.create(null) as TokensList["links"];
  #cut = false;
  #readAt = -Infinity;
  #dirty = false;

  /** Everything that was written. */
  get source(): string {
    return this.#source;
  }

  append(text: string): void {
    this.#source += text;
    this.#dirty = true;
  }

  /** Shows what is new. False: some of it is left for a later call. */
  render(now: number): boolean {
    if (!this.#dirty) return true;
    const length = this.#source.length - this.#stable;
    if (now - this.#readAt < length / CHARACTERS_A_MS) return false;
    this.#readAt = now;
    this.#dirty = false;
    this.#read(false);
    return true;
  }

  /** No more text comes. */
  finish(): void {
    this.#dirty = false;
    this.#read(true);
    this.#fence?.finish();
  }

  #read(whole: boolean): void {
    if (this.#source.length - this.#stable > LONGEST_PARAGRAPH) this.#cutParagraph();
    const rest = this.#source.slice(this.#stable).replace(/\r\n?/g, "\n");
    if (this.#readFence(rest, whole)) return;
    const tokens = this.#lex(rest);
    const last = tokens.findLastIndex((token) => token.type !== "space");
    let end = this.#stable;
    let firmTo = this.#stable;
    const firm: Token[] = [];
    tokens.forEach((token, at) => {
      if (at === last) firmTo = end;
      end += token.raw.length;
      if (at < last) firm.push(token);
    });
    // Lengths are those of the source only where it has plain line ends.
    const exact = rest.length === this.#source.length - this.#stable;
    if (exact && firm.length > 0) {
      this.#clearTail();
      this.element.append(this.#nodes(firm));
      this.#stable = firmTo;
      const open = this.#source.slice(firmTo);
      if (!whole && this.#readFence(open, whole)) return;
    }
    this.#showTail(whole, exact ? this.#source.slice(this.#stable) : rest);
  }

  #showTail(whole: boolean, text: string): void {
    const tokens = this.#lex(whole ? text : healed(text));
    const nodes = [...this.#nodes(tokens).childNodes];
    if (this.#cut && nodes[0] instanceof HTMLParagraphElement) nodes[0].classList.add("continued");
    this.#clearTail();
    this.#tail = nodes;
    this.element.append(...nodes);
  }

  /** An open fence grows by its new characters alone. */
  #readFence(text: string, whole: boolean): boolean {
    const fence = FENCE.exec(text);
    if (!fence) return this.#closeFence();
    const [head, marks = "", info = ""] = fence;
    const close = new RegExp(`^ {0,3}${marks[0]}{${marks.length},}[ \\t]*(?:\\n|$)`, "m");
    const body = text.slice(head.length);
    if (close.test(body)) return this.#closeFence();
    if (!this.#fence) {
      this.#clearTail();
      this.#fence = new CodeBlock();
      this.#tail = [this.#fence.element];
      this.element.append(this.#fence.element);
    }
    this.#fence.name(info.trim().split(/\s/)[0] ?? "");
    // The last line may be the beginning of the closing fence.
    const line = body.lastIndexOf("\n") + 1;
    const doubtful = !whole && /^ {0,3}[`~]+$/.test(body.slice(line));
    this.#fence.set(doubtful ? body.slice(0, line) : body);
    return true;
  }

  #closeFence(): false {
    this.#fence = undefined;
    return false;
  }

  #cutParagraph(): void {
    const rest = this.#source.slice(this.#stable);
    const [first, second] = this.#lex(rest);
    if (first?.type !== "paragraph" || second !== undefined) return;
    const at = Math.max(rest.lastIndexOf("\n", rest.length - 200), rest.lastIndexOf(" ", rest.length - 200)) + 1;
    if (at < LONGEST_PARAGRAPH / 2) return;
    this.#clearTail();
    const nodes = this.#nodes(this.#lex(rest.slice(0, at)));
    if (this.#cut && nodes.firstElementChild instanceof HTMLParagraphElement) nodes.firstElementChild.classList.add("continued");
    this.element.append(nodes);
    this.#stable += at;
    this.#cut = true;
  }

  #clearTail(): void {
    for (const node of this.#tail) node.remove();
    this.#tail = [];
  }

  #lex(text: string): Token[] {
    const lexer = new Lexer(marked.defaults);
    lexer.tokens.links = this.#links;
    return lexer.lex(text);
  }

  #nodes(tokens: Token[]): DocumentFragment {
    if (tokens.some((token) => token.type !== "paragraph")) this.#cut = false;
    const fragment = sanitised(marked.parser(tokens));
    for (const pre of fragment.querySelectorAll("pre")) {
      const language = /language-(\S+)/.exec(pre.querySelector("code")?.className ?? "")?.[1] ?? "";
      const block = new CodeBlock(language);
      block.set((pre.textContent ?? "").replace(/\n$/, ""));
      block.finish();
      pre.replaceWith(block.element);
    }
    for (const table of fragment.querySelectorAll("table")) {
      const frame = make("div", { class: "table-frame", tabIndex: 0, aria: { label: "Table" }, attributes: { role: "group" } });
      table.replaceWith(frame);
      frame.append(table);
    }
    return fragment;
  }
}

/** Closes what is begun and will be closed: otherwise its signs show for a moment, and then vanish. */
export function healed(text: string): string {
  const start = text.lastIndexOf("\n\n") + 1;
  const [before, block] = [text.slice(0, start), text.slice(start)];
  const linked = block.replace(/!?\[([^\]\n]*)\]\([^)\n]*$/, "$1");
  const trimmed = linked.trimEnd();
  if (count(trimmed, /`/g) % 2 === 1) return before + (trimmed.endsWith("`") ? trimmed.slice(0, -1) : `${trimmed}\``);
  const plain = trimmed.replace(/`[^`]*`/g, "");
  if (count(plain, /\*\*/g) % 2 === 1) return before + (trimmed.endsWith("**") ? trimmed.slice(0, -2) : `${trimmed}**`);
  const single = count(plain.replace(/\*\*/g, ""), /(?<=\S)\*|\*(?=\S)/g);
  if (single % 2 === 1) return before + (trimmed.endsWith("*") ? trimmed.slice(0, -1) : `${trimmed}*`);
  return before + linked;
}

function count(text: string, what: RegExp): number {
  return text.match(what)?.length ?? 0;
}
