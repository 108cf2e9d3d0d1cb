// A WebSocket that a test writes: it runs in the page in place of the browser's, speaks just enough of
// dialect v1, and can lie. What the page's client and verdict make of that is the test.

/**
 * Put into the page with `context.addInitScript(fakeSocket, {...})`.
 * `chunks`: `[type, content, metadata?]` each; `lie`: none, altered, skipped, doubled or short.
 */
export function fakeSocket({ chunks, lie, pace = 4 }) {
  const MESSAGE = "0193e1f4-7a52-7c11-9d0e-2f6b1c4a8e55";
  const table = Array.from({ length: 256 }, (_, n) => {
    for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
    return n;
  });
  const digest = (list) => {
    let crc = -1;
    for (const byte of new TextEncoder().encode(list.map(([type, content]) => `${type}\x1f${content}\x1e`).join(""))) crc = table[(crc ^ byte) & 255] ^ (crc >>> 8);
    return (~crc >>> 0).toString(16).padStart(8, "0");
  };
  let lies = lie;
  class FakeSocket extends EventTarget {
    static CONNECTING = 0;
    static OPEN = 1;
    static CLOSING = 2;
    static CLOSED = 3;
    readyState = 0;
    protocol = "chatcluster.v1";
    onopen = onmessage = onerror = onclose = null;

    constructor(url) {
      super();
      this.url = url;
      setTimeout(() => {
        this.readyState = 1;
        this.onopen?.({});
        const expires = new Date(Date.now() + 3_600_000).toISOString();
        this.say("WELCOME", { sessionId: crypto.randomUUID(), userId: "alice", serverTime: new Date().toISOString(), protocol: "chatcluster.v1", node: "node-1", heartbeatMs: 20_000, maxContentChars: 10_000, coalesceMs: 40, tokenExpiresAt: expires, resumeToken: "eyJhbGciOi.resume-secret.x" });
      }, 5);
    }

    say(type, data) {
      if (this.readyState === 1) this.onmessage?.({ data: JSON.stringify({ type, timestamp: new Date().toISOString(), data }) });
    }

    chunk(index, changed) {
      const [type, content, metadata] = chunks[index];
      this.say("CHUNK", { messageId: MESSAGE, index, epoch: 1, type, content: changed ?? content, ...(metadata ? { metadata } : {}) });
    }

    async tell(from) {
      const wrong = Math.floor(chunks.length / 2);
      for (let index = from; index < chunks.length; index++) {
        if (pace > 0 || index % 20 === 0) await new Promise((next) => setTimeout(next, pace));
        const here = index === wrong ? lies : undefined;
        if (here) lies = undefined; // once; the truth is told to whoever asks again
        if (here === "skipped") continue;
        this.chunk(index, here === "altered" ? `${chunks[index][1]}!` : undefined);
        if (here === "doubled") this.chunk(index);
        if (here === "short") break;
      }
      const seal = { messageId: MESSAGE, conversationId: crypto.randomUUID(), status: "completed", totalChunks: chunks.length, digest: digest(chunks), finishReason: "stop", model: "fake", usage: { promptTokens: 1, completionTokens: chunks.length }, latencyMs: 100, firstTokenMs: 5 };
      this.say("COMPLETE", seal);
    }

    send(text) {
      const frame = JSON.parse(text);
      if (frame.type === "HEARTBEAT") this.say("HEARTBEAT_ACK", { t: frame.t });
      if (frame.type === "CHAT_REQUEST") {
        this.say("ACCEPTED", { requestId: frame.requestId, conversationId: frame.conversationId ?? crypto.randomUUID(), userMessageId: crypto.randomUUID(), messageId: MESSAGE, duplicate: false });
        void this.tell(0);
      }
      if (frame.type === "RECONNECT") {
        const from = (frame.lastChunkIndex ?? -1) + 1;
        this.say("RECOVERY", { messageId: MESSAGE, status: "RECOVERED", from, tail: chunks.length, epoch: 1, live: true, digest: digest(chunks.slice(0, from)), source: "memory" });
        void this.tell(from);
      }
    }

    close(code = 1000) {
      if (this.readyState === 3) return;
      this.readyState = 3;
      setTimeout(() => this.onclose?.({ code, reason: "" }), 0);
    }
  }
  window.WebSocket = FakeSocket;
}

/** What the nodes would have stored, answered to the page in their place. */
export async function storeInstead(context, content, totalChunks, digest) {
  const headers = { "access-control-allow-origin": "*", "access-control-allow-headers": "*" };
  await context.route("**/api/v1/messages/*", (route) =>
    route.fulfill({ status: 200, headers, contentType: "application/json", body: JSON.stringify({ status: "completed", content, totalChunks, digest }) }));
}
