"""What a server says, as text messages: one small answer, and every frame about it."""

from __future__ import annotations

import json
from typing import Any

from chatcluster import digest as digests
from chatcluster.frame_reader import parse
from chatcluster.frames import ServerFrame

MESSAGE = "018f4d5e-0000-7000-8000-000000000001"
OTHER = "018f4d5e-0000-7000-8000-000000000002"
SESSION = "018f4d5e-0000-7000-8000-00000000000a"
TOKENS = 20
AT = "2026-01-01T00:00:00.123456789Z"
"""jiff writes as many digits as there are."""


def word(index: int, epoch: int = 1) -> str:
    """Chunk `index` of the answer."""
    return f"{index}-größe🚀 " if epoch == 1 else f"{index}/{epoch} "


def text(upto: int = TOKENS) -> str:
    return "".join(word(index) for index in range(upto))


def digest(upto: int) -> str:
    value = digests.EMPTY
    for index in range(upto):
        value = digests.after(value, "TEXT", word(index))
    return digests.as_text(value)


def frame(kind: str, **data: Any) -> str:
    return json.dumps({"type": kind, "timestamp": AT, "data": data})


def welcome(node: str = "n", heartbeat_ms: int = 20_000, **changes: Any) -> str:
    data = {
        "sessionId": SESSION,
        "userId": "alice",
        "serverTime": AT,
        "protocol": "chatcluster.v1",
        "node": node,
        "heartbeatMs": heartbeat_ms,
        "maxContentChars": 10_000,
        "coalesceMs": 40,
        "tokenExpiresAt": AT,
        "resumeToken": f"resume-{node}",
    }
    return frame("WELCOME", **(data | changes))


def accepted(request_id: str, message: str = MESSAGE, duplicate: bool = False) -> str:
    return frame(
        "ACCEPTED",
        requestId=request_id,
        conversationId=SESSION,
        userMessageId=SESSION,
        messageId=message,
        duplicate=duplicate,
    )


def chunk(index: int, epoch: int = 1, message: str = MESSAGE, **changes: Any) -> str:
    data = {"messageId": message, "index": index, "type": "TEXT", "epoch": epoch}
    return frame("CHUNK", **(data | {"content": word(index, epoch)} | changes))


def chunks(start: int, end: int, epoch: int = 1, message: str = MESSAGE) -> str:
    entries = [{"type": "TEXT", "content": word(index, epoch)} for index in range(start, end)]
    return frame("CHUNKS", messageId=message, epoch=epoch, index=start, chunks=entries)


def complete(total: int = TOKENS, message: str = MESSAGE, **changes: Any) -> str:
    data = {
        "messageId": message,
        "conversationId": SESSION,
        "status": "completed",
        "totalChunks": total,
        "digest": digest(total),
        "finishReason": "stop",
        "model": "sim",
        "usage": {"promptTokens": 1, "completionTokens": total},
        "latencyMs": 5,
        "firstTokenMs": None,
    }
    return frame("COMPLETE", **(data | changes))


def recovery(start: int, tail: int, message: str = MESSAGE, **changes: Any) -> str:
    data = {
        "messageId": message,
        "status": "RECOVERED",
        "from": start,
        "tail": tail,
        "epoch": 1,
        "live": True,
        "digest": digest(start),
        "source": "memory",
    }
    return frame("RECOVERY", **(data | changes))


def reset(to: int, reason: str = "RESTARTED", epoch: int = 2, message: str = MESSAGE) -> str:
    return frame("RESET", messageId=message, reason=reason, truncateTo=to, epoch=epoch)


def takeover(epoch: int, start: int, message: str = MESSAGE) -> str:
    return frame("TAKEOVER", messageId=message, epoch=epoch, mode="continue", **{"from": start})


def status(state: str, message: str = MESSAGE) -> str:
    return frame("STATUS", messageId=message, state=state)


def goaway(after_ms: int = 0, resume: str = "moved") -> str:
    return frame(
        "GOAWAY", reason="drain", deadlineMs=5_000, reconnectAfterMs=after_ms, resumeToken=resume
    )


def refusal(code: str, retryable: bool, **data: Any) -> str:
    body = {"code": code, "retryable": retryable} | data
    return json.dumps({"type": "ERROR", "timestamp": AT, "error": "no", "data": body})


def read(message: str) -> ServerFrame:
    """As a client reads it."""
    frame = parse(message)
    assert frame is not None
    return frame
