import assert from "node:assert/strict";
import { test } from "node:test";
import { address, socketUrl } from "../src/address.js";

test("a server may be given by its socket or by its origin", () => {
  const wanted = { socket: "wss://chat.example/ws/chat", tickets: "https://chat.example/api/v1/tickets" };
  for (const given of [
    "wss://chat.example/ws/chat",
    "https://chat.example",
    "https://chat.example/",
    "wss://chat.example/ws/chat/",
  ]) {
    assert.deepEqual(address(given), wanted, given);
  }
  assert.equal(address("http://127.0.0.1:8081").socket, "ws://127.0.0.1:8081/ws/chat");
});

test("a prefix and a query of their own are kept", () => {
  const of = address("ws://host:1/team/ws/chat?region=eu");
  assert.equal(of.tickets, "http://host:1/team/api/v1/tickets");
  assert.equal(socketUrl(of, "s-1", undefined), "ws://host:1/team/ws/chat?region=eu&sessionId=s-1");
});

test("a ticket stands in the query, encoded", () => {
  assert.equal(socketUrl(address("ws://h"), undefined, "a+b/c="), "ws://h/ws/chat?ticket=a%2Bb%2Fc%3D");
});

test("what is no server's URL is refused at once", () => {
  for (const given of ["", "chat.example", "ftp://chat.example"])
    assert.throws(() => address(given), TypeError, given);
});
