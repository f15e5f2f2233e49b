"""A streaming chat client on asyncio, no packages needed: sends conversations and notes when first tokens come."""

import asyncio
import json
import time
from dataclasses import dataclass


class Failed(Exception):
    """A request that was not answered as it should."""


@dataclass
class Seen:
    """What one request showed: seconds to the first token, prompt and cached tokens, and the engine that served it."""

    ttft: float
    prompt_tokens: int
    cached_tokens: int
    engine: str


async def chat(address, model, messages, max_tokens):
    """One streamed chat completion; returns what was seen and the answer's text."""
    body = json.dumps({"model": model, "messages": messages, "max_tokens": max_tokens, "stream": True,
                       "stream_options": {"include_usage": True}}).encode()
    host, port = address
    reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
    try:
        started = time.monotonic()
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n"
                     f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        await writer.drain()
        status = (await reader.readline()).decode("latin-1").split(" ", 2)[1:2]
        headers = {}
        while (line := (await reader.readline()).decode("latin-1").strip()):
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if status != ["200"]:
            raise Failed(f"status {status}: {(await reader.read(400)).decode(errors='replace')}")
        ttft, answer, usage = await read_events(reader, started)
        if usage is None or ttft is None:
            raise Failed("the stream ended early")
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        return Seen(ttft, usage["prompt_tokens"], cached, headers.get("x-sim-engine", "?")), answer
    finally:
        writer.close()


async def read_events(reader, started):
    ttft, answer, usage = None, [], None
    # Chunk framing puts lengths on lines of their own; only the data lines matter.
    while line := await reader.readline():
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        for choice in event.get("choices", []):
            if content := choice["delta"].get("content"):
                ttft = ttft or time.monotonic() - started
                answer.append(content)
    return ttft, "".join(answer), usage


async def run(address, model, conversations, best, max_tokens, progress):
    """Runs all conversations at their own pace. `best` is told every prompt as it is sent."""
    seen, failures = [], []
    origin = time.monotonic()

    async def user(conversation):
        await asyncio.sleep(max(0, origin + conversation.start - time.monotonic()))
        messages = list(conversation.messages)
        for question, think in zip(conversation.questions, conversation.think):
            messages.append({"role": "user", "content": question})
            best.sent(messages)
            try:
                one, answer = await asyncio.wait_for(chat(address, model, messages, max_tokens), 60)
            except (Failed, OSError, asyncio.TimeoutError, ValueError) as error:
                failures.append(repr(error))
                return
            seen.append(one)
            progress(len(seen))
            best.answered(messages, answer)
            messages.append({"role": "assistant", "content": answer})
            await asyncio.sleep(think)

    await asyncio.gather(*(user(conversation) for conversation in conversations))
    return seen, failures
