// A block of code that may still grow: its language, a button that copies it, colours when it is whole.

import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import css from "highlight.js/lib/languages/css";
import go from "highlight.js/lib/languages/go";
import java from "highlight.js/lib/languages/java";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import python from "highlight.js/lib/languages/python";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import typescript from "highlight.js/lib/languages/typescript";
import xml from "highlight.js/lib/languages/xml";
import yaml from "highlight.js/lib/languages/yaml";
import { iconButton, make } from "../dom.js";
import { copyFrom } from "./copy.js";

const LANGUAGES = { bash, css, go, java, javascript, json, python, rust, sql, typescript, xml, yaml };
for (const [name, language] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, language);

/** Longer code stays plain: colours would cost more than they help. */
const MAX_COLOURED = 30_000;

export class CodeBlock {
  readonly element: HTMLElement;
  readonly #text = document.createTextNode("");
  readonly #code: HTMLElement;
  readonly #label: HTMLElement;
  #language: string;

  constructor(language = "") {
    this.#language = language;
    this.#label = make("span", "code-language", language || "code");
    this.#code = make("code");
    this.#code.append(this.#text);
    const copy = iconButton("copy", "Copy code", () => copyFrom(copy, () => this.text), "small");
    this.element = make("div", "code-block", make("div", "code-head", this.#label, copy), make("pre", { tabIndex: 0, aria: { label: "Code" } }, this.#code));
  }

  get text(): string {
    return this.#text.data;
  }

  name(language: string): void {
    this.#language = language;
    this.#label.textContent = language || "code";
  }

  /** Only what is new is added to the page. */
  set(text: string): void {
    const old = this.#text.data;
    if (text === old) return;
    if (text.startsWith(old)) this.#text.appendData(text.slice(old.length));
    else this.#text.data = text;
  }

  /** No more text comes. */
  finish(): void {
    const text = this.text;
    if (text.length > MAX_COLOURED) return;
    const language = this.#language || guess(text);
    if (!hljs.getLanguage(language)) return;
    if (!this.#language) this.name(language);
    this.#code.replaceChildren(coloured(hljs.highlight(text, { language, ignoreIllegals: true }).value));
  }
}

function guess(text: string): string {
  const start = text.trimStart();
  if (start.startsWith("{") || start.startsWith("[")) {
    try {
      JSON.parse(text);
      return "json";
    } catch {
      return "";
    }
  }
  return "";
}

const ENTITIES: Record<string, string> = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&#x27;": "'" };

/** The highlighter's text as nodes. It knows spans and five entities; everything else stays text. */
function coloured(html: string): DocumentFragment {
  const fragment = document.createDocumentFragment();
  const open: (DocumentFragment | HTMLElement)[] = [fragment];
  for (const part of html.split(/(<span class="[\w -]*">|<\/span>)/)) {
    const top = open.at(-1) ?? fragment;
    const names = /^<span class="([\w -]*)">$/.exec(part);
    if (names) {
      const span = make("span", names[1] ?? "");
      top.append(span);
      open.push(span);
    } else if (part === "</span>") {
      if (open.length > 1) open.pop();
    } else if (part) {
      top.append(part.replace(/&(?:amp|lt|gt|quot|#x27);/g, (entity) => ENTITIES[entity] ?? entity));
    }
  }
  return fragment;
}
