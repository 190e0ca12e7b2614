"""One way to drive both faces of the client, so that the same tests cover both."""

from __future__ import annotations

import asyncio

from hybridllm import AsyncHybridClient, HybridClient


class BlockingFace:
    name = "blocking"

    def __init__(self, **arguments):
        self.client = HybridClient(**arguments)

    def create(self, **request):
        return self.client.chat.completions.create(**request)

    def read(self, limit=None, **request):
        """Stream; returns (chunks, stream). With a limit the stream is closed after so many chunks."""
        stream = self.client.chat.completions.create(stream=True, **request)
        chunks = []
        with stream:
            for chunk in stream:
                chunks.append(chunk)
                if limit is not None and len(chunks) == limit:
                    break
        return chunks, stream

    def final(self, **request):
        with self.client.chat.completions.create(stream=True, **request) as stream:
            return stream.get_final_completion()

    def final_of(self, stream):
        return stream.get_final_completion()

    def load(self):
        return self.client.load()

    def close(self):
        self.client.close()


class AwaitedFace:
    name = "awaited"

    def __init__(self, **arguments):
        self._runner = asyncio.Runner()
        self._open = True
        self.client = AsyncHybridClient(**arguments)

    def create(self, **request):
        return self._runner.run(self.client.chat.completions.create(**request))

    def read(self, limit=None, **request):
        async def go():
            stream = await self.client.chat.completions.create(stream=True, **request)
            chunks = []
            async with stream:
                async for chunk in stream:
                    chunks.append(chunk)
                    if limit is not None and len(chunks) == limit:
                        break
            return chunks, stream

        return self._runner.run(go())

    def final(self, **request):
        async def go():
            async with await self.client.chat.completions.create(stream=True, **request) as stream:
                return await stream.get_final_completion()

        return self._runner.run(go())

    def final_of(self, stream):
        return self._runner.run(stream.get_final_completion())

    def load(self):
        return self._runner.run(self.client.load())

    def close(self):
        if self._open:
            self._open = False
            self._runner.run(self.client.close())
            self._runner.close()


def text_of(chunks):
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
