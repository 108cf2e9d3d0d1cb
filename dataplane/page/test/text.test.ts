// What is sent, what is shown of it, and where an address leads.

import assert from "node:assert/strict";
import test from "node:test";
import { contentOf, varied } from "../src/chat/prompts.js";
import { Library, titleOf, withoutDirective } from "../src/library.js";
import { read } from "../src/route.js";

test("a directive goes before the question, unless the question brings its own", () => {
  assert.equal(contentOf(" hello ", "rate=9"), "[sim rate=9] hello");
  assert.equal(contentOf("[sim tokens=1] hello", "rate=9"), "[sim tokens=1] hello");
  assert.equal(contentOf("hello", undefined), "hello");
});

test("each answer of an essay begins elsewhere, and only of an essay", () => {
  assert.equal(varied("[sim text=essay rate=9] hello", 3), "[sim text=essay rate=9 seed=3] hello");
  assert.equal(varied("[sim seed=7 text=essay] hello", 3), "[sim seed=7 text=essay] hello");
  assert.equal(varied("[sim rate=9] hello", 3), "[sim rate=9] hello");
  assert.equal(varied("about text=essay", 3), "about text=essay");
});

test("a title is the question's beginning, without the directive", () => {
  assert.equal(titleOf("[sim rate=9]  Why  is\nthis?"), "Why is this?");
  assert.equal(titleOf("[sim rate=9]"), "rate=9");
  assert.equal(titleOf("x".repeat(80)).length, 60);
  assert.deepEqual(withoutDirective("hello"), { directive: undefined, text: "hello" });
});

test("addresses are ids or nothing", () => {
  const id = "0193e1f4-7a52-7c11-9d0e-2f6b1c4a8e55";
  assert.deepEqual(read(`#/m/${id}`), { kind: "message", id });
  assert.deepEqual(read(`#/c/${id.toUpperCase()}`), { kind: "conversation", id });
  for (const bad of ["", "#", `#/x/${id}`, "#/m/<img src=x onerror=alert(1)>", `#/m/${id}/more`]) assert.deepEqual(read(bad), { kind: "none" });
});

class Shelf {
  readonly #kept = new Map<string, string>();
  get length() { return this.#kept.size; }
  key(at: number) { return [...this.#kept.keys()][at] ?? null; }
  getItem(key: string) { return this.#kept.get(key) ?? null; }
  setItem(key: string, value: string) { this.#kept.set(key, value); }
  removeItem(key: string) { this.#kept.delete(key); }
  clear() { this.#kept.clear(); }
}

test("conversations are each user's own, newest first, bounded, and survive what cannot be read", () => {
  const shelf = new Shelf();
  const alice = new Library(shelf, "alice");
  const first = alice.create();
  first.turns.push({ question: "[sim rate=1] One?", answers: [{ requestId: "r", messageId: "m" }], shown: 0 });
  alice.save(first);
  assert.equal(alice.get(first.id)?.title, "One?");
  assert.equal(alice.holding("m")?.id, first.id);
  assert.deepEqual(new Library(shelf, "bob").list(), []);
  shelf.setItem("chatcluster.conversation.alice.broken", "{");
  assert.equal(alice.list().length, 1);
  for (let at = 0; at < 120; at++) alice.save({ ...alice.create(), updatedAt: Date.now() + at });
  assert.equal(alice.list().length, 100);
  assert.equal(alice.get(first.id), undefined, "the oldest went first");
});
