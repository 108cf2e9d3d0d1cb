// The parts of one answer, in order: each run of chunks of one type is shown in its own way.

import type { Chunk, ChunkType } from "@chatcluster/client";
import { icon, make } from "../dom.js";
import { CodeBlock } from "./code.js";
import { MarkdownStream } from "./markdown.js";

/** A part that grows. */
export interface Segment {
  readonly kind: ChunkType;
  readonly element: HTMLElement;
  /** Whether the chunk belongs to it. */
  takes(chunk: Chunk): boolean;
  add(chunk: Chunk): void;
  /** Shows what is new. False: not everything yet. */
  render(now: number): boolean;
  /** Nothing comes any more: another part has begun, or the answer has ended. */
  finish(): void;
}

export function segmentFor(chunk: Chunk): Segment {
  const segment = new KINDS[chunk.type](chunk);
  return segment;
}

class TextSegment implements Segment {
  readonly kind = "TEXT";
  readonly #markdown = new MarkdownStream();
  readonly element = this.#markdown.element;

  takes(chunk: Chunk): boolean {
    return chunk.type === this.kind;
  }
  add(chunk: Chunk): void {
    this.#markdown.append(chunk.content);
  }
  render(now: number): boolean {
    return this.#markdown.render(now);
  }
  finish(): void {
    this.#markdown.finish();
  }
}

class CodeSegment implements Segment {
  readonly kind = "CODE";
  readonly #block = new CodeBlock();
  readonly element = this.#block.element;
  #text = "";

  takes(chunk: Chunk): boolean {
    return chunk.type === this.kind;
  }
  add(chunk: Chunk): void {
    this.#text += chunk.content;
  }
  render(): boolean {
    this.#block.set(this.#text);
    return true;
  }
  finish(): void {
    this.#block.set(this.#text.replace(/\n+$/, ""));
    this.#block.finish();
  }
}

/** Folded: who wants to see it opens it, also while it grows. */
class ThinkingSegment implements Segment {
  readonly kind = "THINKING";
  readonly #text = document.createTextNode("");
  readonly #label = make("span", {}, "Thinking");
  readonly element = make(
    "details",
    "thinking growing",
    make("summary", {}, icon("thought"), this.#label, make("span", "fold")),
    make("div", "thinking-text", this.#text),
  );
  #new = "";
  #begun = performance.now();

  takes(chunk: Chunk): boolean {
    return chunk.type === this.kind;
  }
  add(chunk: Chunk): void {
    this.#new += chunk.content;
  }
  render(): boolean {
    this.#text.appendData(this.#new);
    this.#new = "";
    return true;
  }
  finish(): void {
    this.render();
    this.element.classList.remove("growing");
    const seconds = (performance.now() - this.#begun) / 1_000;
    this.#label.textContent = seconds >= 1 ? `Thought for ${seconds.toFixed(0)} s` : "Thoughts";
  }
}

/** A call of a tool: its name, and its arguments as they come. */
class ToolSegment implements Segment {
  readonly kind = "TOOL_USE";
  readonly #call: string;
  readonly #text = document.createTextNode("");
  readonly element: HTMLElement;
  #arguments = "";

  constructor(chunk: Chunk) {
    const { callId, name } = toolOf(chunk);
    this.#call = callId;
    const title = make("summary", {}, icon("tool"), "Uses ", make("code", {}, name || "a tool"), make("span", "fold"));
    this.element = make("details", { class: "tool", open: true }, title, make("pre", { tabIndex: 0, aria: { label: "Arguments" } }, this.#text));
  }
  takes(chunk: Chunk): boolean {
    return chunk.type === this.kind && toolOf(chunk).callId === this.#call;
  }
  add(chunk: Chunk): void {
    this.#arguments += chunk.content;
  }
  render(): boolean {
    this.#text.data = this.#arguments;
    return true;
  }
  finish(): void {
    try {
      this.#text.data = JSON.stringify(JSON.parse(this.#arguments), null, 2);
    } catch {
      this.#text.data = this.#arguments;
    }
  }
}

function toolOf(chunk: Chunk): { callId: string; name: string } {
  const { callId, name } = (chunk.metadata ?? {}) as { callId?: unknown; name?: unknown };
  return { callId: typeof callId === "string" ? callId : "", name: typeof name === "string" ? name : "" };
}

/** Where something comes from. A link only where the provider gives one that a browser may open. */
class CitationSegment implements Segment {
  readonly kind = "CITATION";
  readonly #text = document.createTextNode("");
  readonly #described: boolean;
  readonly element: HTMLElement;
  #new = "";

  constructor(chunk: Chunk) {
    const { url, title } = (chunk.metadata ?? {}) as { url?: unknown; title?: unknown };
    this.#described = chunk.metadata !== undefined && chunk.metadata !== null;
    this.element = make("div", "citation", icon("quote"));
    const words = make("span", {}, this.#text);
    if (typeof title === "string" && title) words.prepend(make("strong", {}, title), " ");
    if (typeof url === "string" && /^https?:\/\//i.test(url)) {
      this.element.append(make("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, words));
    } else {
      this.element.append(words);
    }
  }
  takes(chunk: Chunk): boolean {
    return chunk.type === this.kind && !this.#described && (chunk.metadata === undefined || chunk.metadata === null);
  }
  add(chunk: Chunk): void {
    this.#new += chunk.content;
  }
  render(): boolean {
    this.#text.appendData(this.#new);
    this.#new = "";
    return true;
  }
  finish(): void {
    this.render();
  }
}

const KINDS: Record<ChunkType, new (chunk: Chunk) => Segment> = {
  TEXT: TextSegment,
  CODE: CodeSegment,
  THINKING: ThinkingSegment,
  TOOL_USE: ToolSegment,
  CITATION: CitationSegment,
};
