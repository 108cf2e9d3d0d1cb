"""Asks one question and prints the answer while it comes.

CHAT_URLS=http://127.0.0.1:8081,http://127.0.0.1:8082 CHAT_TOKEN=... python ask.py What is a log?
"""

import asyncio
import os
import sys

from chatcluster import ChatClient, Chunk, Reset


async def main() -> None:
    urls, token = os.environ["CHAT_URLS"].split(","), os.environ["CHAT_TOKEN"]
    async with ChatClient(urls, token) as client:
        answer = await client.send(" ".join(sys.argv[1:]))
        async for event in answer:
            match event:
                case Chunk(content=text):
                    print(text, end="", flush=True)
                case Reset():
                    print("\n--- the answer starts over ---")
        seal = await answer.done()
    end = f"{seal.status}, {seal.total_chunks} chunks, digest ok: {answer.stats.digest_ok}"
    print(f"\n{end}", file=sys.stderr)


asyncio.run(main())
