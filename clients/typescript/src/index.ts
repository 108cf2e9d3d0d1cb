// What the package gives away.

export { ChatClient } from "./client.js";
export { ChatError, type ClientErrorCode } from "./errors.js";
export type { Answer, AnswerEvent, AnswerEvents, AnswerState, AnswerStats } from "./answer.js";
export type { Listener, Unsubscribe } from "./emitter.js";
export type * from "./frames.js";
export type * from "./options.js";
