// node examples/chat.mjs "Hello": asks a playground (`make dev`) and prints the answer as it comes.
// Kill, drain or pause the node that answers: the text goes on.
import { ChatClient } from "@chatcluster/client";
import { WebSocket } from "ws"; // Browsers and Node 22 have their own: leave it out there.

const playground = process.env.CHAT_PLAYGROUND ?? "http://127.0.0.1:8080";
const get = async (path) => (await fetch(playground + path)).json();

const client = new ChatClient({
  urls: (await get("/dev/nodes")).map((node) => node.wsUrl),
  token: async () => (await get("/dev/token?user=alice")).token,
  WebSocket,
});
client.on("state", (state) =>
  console.error(`[${state.kind}${state.kind === "open" ? ` ${state.node}` : ""}]`),
);

const answer = client.send(process.argv[2] ?? "Hello");
for await (const event of answer) {
  if (event.type === "chunk") process.stdout.write(event.chunk.content);
  if (event.type === "reset") process.stdout.write("\n--- once more from the start ---\n");
}
const { status, totalChunks } = await answer.done;
console.error(`\n[${status}, ${totalChunks} chunks, digest ${answer.stats.digestOk ? "ok" : "WRONG"}]`);
client.close();
