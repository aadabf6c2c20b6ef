"""One POST to a server that is not trusted: its answer is bounded before it is read."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hf_llambert.teachers.keys import is_private

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 1_000_000
"""Longest body of an answer, in bytes, packed or not."""

CONNECTIONS = 100
"""Most connections of one client."""


class TooLong(Exception):
    """A body is longer than [`MOST_BYTES`]."""


@dataclass(frozen=True)
class Answered:
    """
    What a server answered.

    Args:
        status (`int`): The status of HTTP.
        headers (`Mapping[str, str]`): Its headers.
        body (`bytes`): The body, unpacked; of an error at most the first [`MOST_BYTES`].
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def make_client(key: str, timeout: float, url: str | None = None) -> httpx2.AsyncClient:
    """
    A client that follows no redirect, so that key and texts go to no other host. In the clear they go to
    no proxy of the environment (`HTTP_PROXY`, `ALL_PROXY`) either where a private host is asked. It keeps no cookies, which a
    server could give without end.
    """
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx2

    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "identity",
    }
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    parts = urlsplit(url or "https://huggingface.co")
    straight = parts.scheme.lower() != "https" and is_private(parts.hostname or "")
    return httpx2.AsyncClient(
        headers=headers,
        timeout=timeout,
        follow_redirects=False,
        limits=limits,
        trust_env=not straight,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


async def post(client: httpx2.AsyncClient, url: str, content: object) -> Answered:
    """
    Post JSON and read the answer.

    Raises:
        TooLong: The body of a good answer is too long. The rest of it was not read.
        ValueError: It is packed in a way that was not asked for and is not gzip.
    """
    async with client.stream("POST", url, content=json.dumps(content).encode()) as response:
        good = 200 <= response.status_code < 300
        raw = bytearray()
        async for chunk in response.aiter_raw():
            raw += chunk
            if len(raw) > MOST_BYTES:
                break
        try:
            body = _unpacked(bytes(raw), response.headers.get("Content-Encoding", ""))
        except (ValueError, zlib.error):
            if good:
                raise ValueError("the answer is packed in an unknown way") from None
            body = b""
        if good and max(len(raw), len(body)) > MOST_BYTES:
            raise TooLong(f"the answer is longer than {MOST_BYTES:,} bytes")
        return Answered(response.status_code, response.headers, body[:MOST_BYTES])


def _unpacked(raw: bytes, encoding: str) -> bytes:
    """The body as it was before it was packed, at most one byte longer than allowed."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return raw
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise ValueError("unknown packing")
    return zlib.decompressobj(wbits=47).decompress(raw, MOST_BYTES + 1)


def one_line(said: str) -> str:
    """A server's message as it is shown: short, on one line, without control characters."""
    said = "".join(c if c.isprintable() else "\ufffd" for c in " ".join(said.split()))
    return said[:200]
