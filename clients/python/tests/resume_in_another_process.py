"""A process that knows of an answer nothing but a cursor, and prints the rest of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys

from chatcluster import ChatClient, Chunk, Cursor


async def main() -> None:
    cursor = Cursor(**json.loads(sys.argv[1]))
    async with ChatClient(sys.argv[2:], os.environ["CHAT_TOKEN"]) as client:
        answer = client.follow(cursor)
        indexes = [event.index async for event in answer if isinstance(event, Chunk)]
        await answer.done()
    seen = {"indexes": indexes, "content": answer.content, "digestOk": answer.stats.digest_ok}
    print(json.dumps(seen))


asyncio.run(main())
