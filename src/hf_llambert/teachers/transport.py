"""OpenAI's client, for a server that is not trusted: what it is sent is ours alone, and its answer is bounded."""

from __future__ import annotations

import zlib
from contextlib import aclosing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hf_llambert.teachers.keys import is_private

if TYPE_CHECKING:
    import httpx2
    from openai import AsyncOpenAI

MOST_BYTES = 1_000_000
"""Longest body of an answer, in bytes, packed or not."""

CONNECTIONS = 100
"""Most connections of one client."""


class TooLong(Exception):
    """The body of a good answer is longer than [`MOST_BYTES`]."""


def make_client(key: str, url: str) -> AsyncOpenAI:
    """
    A client that repeats nothing and follows no redirect, so that key and texts go to no other host. In the clear they go to
    no proxy of the environment (`HTTP_PROXY`, `ALL_PROXY`) either where a private host is asked. It keeps no cookies, which a
    server could give without end, and sends nothing of what `openai` finds in the environment (`OPENAI_ORG_ID`,
    `OPENAI_CUSTOM_HEADERS`) or says of this machine.

    Raises:
        ConnectionError: `url` is no address.
    """
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx2
    from openai import AsyncOpenAI

    async def only_ours(request: httpx2.Request) -> None:
        request.headers = httpx2.Headers(
            {
                "Host": request.url.netloc.decode("ascii"),
                "Authorization": f"Bearer {key}",
                "Content-Type": "application/json",
                "Content-Length": str(len(request.content)),
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "User-Agent": request.headers["User-Agent"],
            }
        )

    parts = urlsplit(url)
    straight = parts.scheme.lower() != "https" and is_private(parts.hostname or "")
    http = httpx2.AsyncClient(
        follow_redirects=False,
        limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS),
        trust_env=not straight,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        event_hooks={"request": [only_ours], "response": [_bound]},
    )
    try:
        return AsyncOpenAI(api_key=key, base_url=url, max_retries=0, timeout=None, http_client=http)
    except httpx2.InvalidURL as error:
        raise ConnectionError(f"'{url}' is no address: {one_line(str(error))}. Check base_url.") from None


async def post(client: AsyncOpenAI, place: str, body: object) -> httpx2.Response:
    """
    What a server answers, good or not. Nothing ends the wait for it.

    Raises:
        TooLong: The body of a good answer is too long. The rest of it was not read.
        ValueError: It is packed in a way that was not asked for and is not gzip.
        httpx2.HTTPError, OSError: The connection failed.
    """
    import httpx2
    from openai import APIConnectionError, APIStatusError

    try:
        return await client.post(place, body=body, cast_to=httpx2.Response)
    except APIStatusError as error:
        return error.response
    except APIConnectionError as error:
        cause = error.__cause__
        known = isinstance(cause, httpx2.HTTPError | OSError | ValueError | TooLong)
        raise cause if cause and known else httpx2.ReadError(str(error)) from None


async def _bound(response: httpx2.Response) -> None:
    """Read an answer's body before anything else does: of a good one all or nothing, of an error the beginning."""
    import httpx2

    good, raw = response.is_success, bytearray()
    async with aclosing(response.aiter_raw()) as parts:
        async for part in parts:
            raw += part
            if len(raw) > MOST_BYTES:
                break
    try:
        body = _unpacked(bytes(raw), response.headers.pop("Content-Encoding", ""))
    except (ValueError, zlib.error):
        if good:
            raise ValueError("the answer is packed in an unknown way") from None
        body = b""
    if good and max(len(raw), len(body)) > MOST_BYTES:
        raise TooLong(f"the answer is longer than {MOST_BYTES:,} bytes")
    response.stream, response.encoding = httpx2.ByteStream(body[:MOST_BYTES]), "utf-8"
    response.is_closed = response.is_stream_consumed = False  # that is read in its place


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
