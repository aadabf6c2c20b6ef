"""Access to the review page: only requests with its secret, and none from other sites in the same browser."""

from __future__ import annotations

import hmac
import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_READ = {"", "assets", "static", "svelte", "config", "info", "theme.css", "favicon.ico", "manifest.json", "robots.txt"}
_USED = {"run", "api", "call", "queue", "reset", "heartbeat", "startup-events", "cancel"}
"""First parts of the paths that the page uses; all others (files, uploads, proxies, records) are refused."""

_STARTING = {"startup-events", ""}  # what gradio itself asks for while it starts


_LOOPBACK = re.compile(r"(?:127\.0\.0\.1|localhost)(?::\d{1,5})?")


class PageGuard:
    """
    Refuses with 403 what does not bring the secret of the page, comes from another site, or asks for what the page does not
    need. The secret comes once in the address, then in a cookie that scripts do not see.
    """

    def __init__(self) -> None:
        self._secret = secrets.token_urlsafe(32)
        self._open = True  # while the page starts
        self._cookie = "hf_llambert_review"

    def closed(self, address: str) -> str:
        """Begin to refuse requests without the secret. Returns the address with it."""
        port = urlsplit(address).port
        self._cookie = (
            f"hf_llambert_review_{port}"  # a browser tells the pages of one machine not apart by their ports
        )
        self._open = False
        return f"{address.rstrip('/')}/?token={self._secret}"

    def around(self, app: ASGIApp) -> ASGIApp:
        """An application that asks this guard first."""

        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                await app(scope, receive, send)
                return
            headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
            if not self._may(scope["path"], scope.get("method", "WEBSOCKET"), headers, scope["query_string"]):
                await _refuse(scope, send)
                return

            async def sending(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] = [*message.get("headers", []), *self._more(scope["query_string"])]
                await send(message)

            await app(scope, receive, sending)

        return guarded

    def _may(self, path: str, method: str, headers: list[tuple[str, str]], query: bytes) -> bool:
        first = path.removeprefix("/gradio_api").strip("/").partition("/")[0]
        if ".." in path or first not in _READ | _USED:
            return False
        if self._open:
            return method in ("GET", "HEAD") and first in _STARTING
        hosts = [value.lower() for name, value in headers if name == "host"]
        if len(hosts) != 1 or not _LOOPBACK.fullmatch(hosts[0]):
            return False
        # A tunnel (ssh -L 9000:127.0.0.1:7860) has another port, the same in both.
        if any(name == "origin" and value.lower() != f"http://{hosts[0]}" for name, value in headers):
            return False
        cookies = [value for name, value in headers if name == "cookie"]
        return self._knows(_of_query(query)) or any(map(self._knows, _of_cookies(cookies, self._cookie)))

    def _knows(self, token: str) -> bool:
        return hmac.compare_digest(token.encode("utf-8", "surrogatepass"), self._secret.encode())

    def _more(self, query: bytes) -> list[tuple[bytes, bytes]]:
        headers = [(b"referrer-policy", b"same-origin"), (b"x-frame-options", b"DENY")]
        if not self._open and self._knows(_of_query(query)):
            cookie = f"{self._cookie}={self._secret}; Path=/; HttpOnly; SameSite=Strict"
            headers.append((b"set-cookie", cookie.encode()))
        return headers


def _of_query(query: bytes) -> str:
    try:
        return parse_qs(query.decode("latin-1"), max_num_fields=50).get("token", [""])[0]
    except ValueError:
        return ""


def _of_cookies(headers: list[str], name: str) -> list[str]:
    """
    The values of a cookie. Parsed by hand, since the standard library drops a whole header for one malformed cookie.
    """
    pairs = [pair.strip().partition("=") for header in headers for pair in header.split(";")]
    return [value.strip('"') for own, _, value in pairs if own == name]


async def _refuse(scope: Scope, send: Send) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1008})
        return
    said = b"This page is opened by the address that hf-llambert review prints."
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(said)).encode())]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": said})
