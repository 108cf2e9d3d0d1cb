// What a WebSocket close code means to a client (protocol section 5).

/** A normal end. */
export const DONE = 1000;
/** No close frame came: a broken cable, a crash, or a refused upgrade. */
export const ABNORMAL = 1006;
/** Get another token and come back. */
export const TOKEN_EXPIRED = 4001;
/** No token helps. */
export const UNAUTHENTICATED = 4500;
/** Not with this user. */
export const FORBIDDEN = 4501;

const FINAL = new Set([DONE, 1002, 1003, 1007, 1008, 1009, 1010]);

/** Whether to reconnect and resume after this code, the server's own or a proxy's. */
export function reconnects(code: number): boolean {
  return !FINAL.has(code) && !(code >= 4500 && code <= 4999);
}
