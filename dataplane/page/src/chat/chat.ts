// The conversation that is shown, and every answer that is being followed: also in conversations that
// are not shown, until they end.

import type { ChatClient } from "@chatcluster/client";
import { make } from "../dom.js";
import type { AnswerEntry, Conversation, Library, Turn } from "../library.js";
import { titleOf } from "../library.js";
import * as snapshots from "../snapshots.js";
import { questionBubble } from "./composer.js";
import { LiveAnswer, type Room } from "./live_answer.js";
import { varied } from "./prompts.js";
import type { Following } from "./scroll.js";

interface Followed {
  readonly live: LiveAnswer;
  readonly conversation: string;
}

export class Chat {
  readonly list = make("div", { class: "turns" });
  readonly #client: ChatClient;
  readonly #library: Library;
  readonly #room: Room;
  /** By requestId. */
  readonly #followed = new Map<string, Followed>();
  #current: Conversation | undefined;
  /** Not the reader's own: a message that somebody linked to. */
  #shared = false;
  following: Following | undefined;

  constructor(client: ChatClient, library: Library, room: Room) {
    this.#client = client;
    this.#library = library;
    this.#room = room;
  }

  get current(): Conversation | undefined {
    return this.#current;
  }

  get isShared(): boolean {
    return this.#shared;
  }

  /** Every answer that has not ended. */
  live(): LiveAnswer[] {
    return [...this.#followed.values()].map((one) => one.live).filter((live) => !live.ended);
  }

  /** The newest live answer of what is shown. */
  shownLive(): LiveAnswer | undefined {
    const here = [...this.#followed.values()].filter((one) => one.conversation === this.#current?.id && !one.live.ended);
    return here.at(-1)?.live;
  }

  liveConversations(): Set<string> {
    return new Set([...this.#followed.values()].filter((one) => !one.live.ended).map((one) => one.conversation));
  }

  /** Shows a conversation; undefined: an empty one, which is made when something is asked. */
  open(conversation: Conversation | undefined): void {
    if (conversation && conversation.id === this.#current?.id) return;
    this.#current = conversation;
    this.#shared = false;
    this.#letGo();
    this.list.replaceChildren(...(conversation?.turns ?? []).map((turn) => this.#turn(conversation as Conversation, turn)));
    this.following?.jump();
    this.#room.changed();
  }

  /** Shows one answer that is in no conversation of this browser. */
  openMessage(messageId: string): void {
    const turn: Turn = { question: "", answers: [{ requestId: `m-${messageId}`, messageId }], shown: 0 };
    const now = Date.now();
    this.open({ id: `m-${messageId}`, title: "A shared answer", createdAt: now, updatedAt: now, turns: [turn] });
    this.#shared = true;
  }

  /** Ended answers of conversations that are not shown are read again when they are. */
  #letGo(): void {
    for (const [requestId, { live, conversation }] of this.#followed) {
      if (!live.ended || conversation === this.#current?.id) continue;
      if (live.messageId !== undefined) this.#room.audit.forget(live.messageId);
      this.#followed.delete(requestId);
    }
  }

  ask(content: string): void {
    const conversation = this.#current && !this.#shared ? this.#current : this.#library.create();
    const turn: Turn = { question: content, answers: [], shown: 0 };
    conversation.turns.push(turn);
    if (conversation.id !== this.#current?.id) {
      this.#current = conversation;
      this.#shared = false;
      this.list.replaceChildren();
    }
    this.#answer(conversation, turn);
    this.list.append(this.#turn(conversation, turn));
    this.following?.jump();
    this.#room.changed();
  }

  /** Takes over what another tab has asked meanwhile; its answers are followed here as well. */
  refresh(): void {
    const current = this.#current;
    const stored = current && this.#library.get(current.id);
    if (!stored) return;
    if (stored.named) Object.assign(current, { title: stored.title, named: true });
    for (const turn of stored.turns.slice(current.turns.length)) {
      current.turns.push(turn);
      this.list.append(this.#turn(current, turn));
    }
  }

  #answer(conversation: Conversation, turn: Turn): void {
    turn.answers.push({ requestId: crypto.randomUUID() });
    turn.shown = turn.answers.length - 1;
    this.#save(conversation, Date.now());
  }

  #save(conversation: Conversation, updatedAt?: number): void {
    if (updatedAt !== undefined) conversation.updatedAt = updatedAt;
    if (!this.#isOfMessage(conversation)) this.#library.save(conversation);
  }

  #isOfMessage(conversation: Conversation): boolean {
    return conversation.id.startsWith("m-");
  }

  regenerate(conversation: Conversation, turn: Turn, place: HTMLElement): void {
    if (!turn.question) return;
    this.#answer(conversation, turn);
    place.replaceWith(this.#turn(conversation, turn));
    this.following?.jump();
    this.#room.changed();
  }

  /** Asks the newest question once more. */
  regenerateLast(): void {
    const turn = this.#current?.turns.at(-1);
    const place = this.list.lastElementChild;
    if (this.#current && turn && place instanceof HTMLElement && !this.shownLive()) this.regenerate(this.#current, turn, place);
  }

  stop(): void {
    this.shownLive()?.stop();
  }

  keep(): void {
    for (const live of this.live()) live.keep();
  }

  /** Where a message is on the page. */
  element(messageId: string): HTMLElement | undefined {
    return document.getElementById(`m-${messageId}`) ?? undefined;
  }

  /** Shows the answer that a link names among those to the same question. */
  showVariant(conversation: Conversation, messageId: string): void {
    for (const turn of conversation.turns) {
      const at = turn.answers.findIndex((answer) => answer.messageId === messageId);
      if (at >= 0) turn.shown = at;
    }
  }

  #turn(conversation: Conversation, turn: Turn): HTMLElement {
    const place = make("section", "turn");
    if (turn.question) place.append(questionBubble(turn.question));
    const entry = turn.answers[turn.shown];
    if (entry) {
      const { view } = this.#follow(conversation, turn, entry, () => place);
      view.variants(turn.shown, turn.answers.length);
      place.append(view.element);
    }
    return place;
  }

  #follow(conversation: Conversation, turn: Turn, entry: AnswerEntry, place: () => HTMLElement): LiveAnswer {
    const known = this.#followed.get(entry.requestId);
    if (known) return known.live;
    const answer = entry.messageId !== undefined
      ? this.#client.follow(entry.messageId, snapshots.kept(entry.messageId))
      : this.#client.send({
          content: varied(turn.question, answersOf(conversation)),
          conversationId: conversation.id,
          requestId: entry.requestId,
        });
    const here = () => live.view.element.closest<HTMLElement>(".turn") ?? place();
    const live = new LiveAnswer(answer, {
      regenerate: () => this.regenerate(conversation, turn, here()),
      link: () => `${location.origin}${location.pathname}#/m/${live.messageId ?? ""}`,
      show: (step) => {
        turn.shown = Math.min(Math.max(turn.shown + step, 0), turn.answers.length - 1);
        this.#save(conversation);
        here().replaceWith(this.#turn(conversation, turn));
      },
    }, this.#room);
    answer.on("accepted", ({ messageId }) => {
      entry.messageId = messageId;
      this.#save(conversation);
    });
    this.#followed.set(entry.requestId, { live, conversation: conversation.id });
    return live;
  }

  rename(id: string, title: string): void {
    const conversation = this.#current?.id === id ? this.#current : this.#library.get(id);
    if (!conversation) return;
    Object.assign(conversation, { title: title.slice(0, 200), named: true });
    this.#save(conversation);
    this.#room.changed();
  }

  title(): string {
    const current = this.#current;
    if (!current) return "";
    return current.named || this.#shared ? current.title : titleOf(current.turns[0]?.question ?? current.title);
  }
}

function answersOf(conversation: Conversation): number {
  return conversation.turns.reduce((sum, turn) => sum + turn.answers.length, 0);
}
