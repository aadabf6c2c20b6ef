"""A server that speaks OpenAI's chat and completion protocols over real HTTP, with faults by a seeded plan."""

import asyncio
import collections
import hashlib
import json
import math
import random
import threading

from aiohttp import web

FAULTS = ("429", "429 at once", "500", "503", "slow", "cut", "garbage", "no choices", "empty", "html")


class EndpointServer:
    """
    Answers "positive" to texts that contain "good" and "negative" to others. `with EndpointServer() as server` runs it on a
    free port of the loopback.

    Args:
        fault_share: Share of requests that fail, in the ways of FAULTS by turns of a seeded draw.
        seconds: What an answer takes.
        wrong_share: Share of texts that are answered with no label, always.
        needs_key: The key without which everything is refused.
        speaks: What it can do of "chat", "completions", "logprobs", "structured".
    """

    def __init__(self, fault_share=0.0, seconds=0.0, wrong_share=0.0, needs_key=None, speaks=None, seed=0):
        self.fault_share, self.seconds, self.wrong_share, self.needs_key = fault_share, seconds, wrong_share, needs_key
        self.speaks = {"chat", "completions", "logprobs", "structured"} if speaks is None else set(speaks)
        self.random = random.Random(seed)
        self.requests = 0
        self.faults = collections.Counter()
        self.answered = collections.Counter()
        self.keys, self.bodies = set(), []
        self.in_flight = self.peak = 0
        self.refuse = None  # a status for every request
        self.redirect = self.retry_after = None

    def __enter__(self):
        self.loop, started = asyncio.new_event_loop(), threading.Event()

        def serve():
            asyncio.set_event_loop(self.loop)
            self.loop.run_until_complete(self._start())
            started.set()
            self.loop.run_forever()
            self.loop.run_until_complete(self.runner.cleanup())

        self.thread = threading.Thread(target=serve, daemon=True)
        self.thread.start()
        started.wait()
        return self

    def __exit__(self, *error):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def _start(self):
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._completions)
        self.runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}/v1"

    async def _chat(self, request):
        return await self._answer(request, "chat")

    async def _completions(self, request):
        return await self._answer(request, "completions")

    async def _answer(self, request, kind):
        self.requests += 1
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            self.keys.add(request.headers.get("Authorization"))
            body = await request.json()
            self.bodies.append(body)
            if self.redirect:
                return web.Response(status=307, headers={"Location": self.redirect})
            if self.needs_key and request.headers.get("Authorization") != f"Bearer {self.needs_key}":
                return web.json_response({"error": {"message": "Incorrect API key provided"}}, status=401)
            if self.refuse or kind not in self.speaks:
                headers = {"Retry-After": self.retry_after} if self.retry_after else {}
                return web.json_response(
                    {"error": {"message": "no such model"}}, status=self.refuse or 404, headers=headers
                )
            if "response_format" in body and "structured" not in self.speaks:
                return web.json_response({"error": {"message": "response_format is not supported"}}, status=400)
            if self.random.random() < self.fault_share:
                return await self._fail(request)
            await asyncio.sleep(self.seconds)
            text = body["messages"][-1]["content"] if kind == "chat" else body["prompt"]
            self.answered[text] += 1
            return web.json_response(self._completion(body, kind, text))
        finally:
            self.in_flight -= 1

    async def _fail(self, request):
        fault = self.random.choice(FAULTS)
        self.faults[fault] += 1
        if fault == "429":
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0.02"})
        if fault == "slow":
            await asyncio.sleep(30)
        if fault == "cut":
            request.transport.close()
        bodies = {"garbage": '{"choices": [{"mess', "no choices": '{"error": null}', "html": "<html>gateway</html>"}
        if fault in bodies:
            return web.Response(text=bodies[fault], content_type="application/json")
        if fault == "empty":
            return web.json_response({"choices": [{"message": {"role": "assistant", "content": ""}, "text": ""}]})
        return web.json_response(
            {"error": {"message": "overloaded"}}, status=int(fault[:3]) if fault[0] in "45" else 500
        )

    def _completion(self, body, kind, text):
        share = int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32
        label = "positive" if "good" in text else "negative"
        content = "I would rather not say." if share < self.wrong_share else label
        if "response_format" in body and content == label:
            content = json.dumps({"label": label})
        choice = {"index": 0, "finish_reason": "stop"}
        choice |= {"message": {"role": "assistant", "content": content}} if kind == "chat" else {"text": content}
        if "logprobs" in body and "logprobs" in self.speaks:
            top = {label: 0.7, " " + label.capitalize(): 0.1, "The": 0.1, "maybe": 0.05}
            if kind == "chat":
                listed = [{"token": t, "logprob": math.log(p), "bytes": None} for t, p in top.items()]
                choice["logprobs"] = {"content": [{"token": label, "logprob": math.log(0.7), "top_logprobs": listed}]}
            else:
                choice["logprobs"] = {"tokens": [label], "top_logprobs": [{t: math.log(p) for t, p in top.items()}]}
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": 1, "total_tokens": len(text.split()) + 1}
        return {
            "id": "x",
            "object": "completion",
            "created": 0,
            "model": body["model"],
            "choices": [choice],
            "usage": usage,
        }
