import asyncio
from urllib.parse import unquote, urlsplit

import pytest

from hf_llambert.review.page_guard import PageGuard

HOST = "127.0.0.1:7860"


class Page:
    """An application behind a guard, asked without a network as its server would ask it."""

    def __init__(self):
        guard = PageGuard()
        self.app = guard.around(self.answer)
        self.query = urlsplit(guard.closed(f"http://{HOST}/")).query.encode()
        self.cookie = self.ask("/", query=self.query, cookie=None)[1][b"set-cookie"].decode().split(";")[0]

    async def answer(self, scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def ask(self, path, method="GET", host=HOST, origin=None, query=b"", cookie="own", kind="http"):
        cookie = self.cookie if cookie == "own" else cookie
        headers = [("host", host), ("origin", origin), ("cookie", cookie)]
        headers = [(name.encode(), value.encode("latin-1")) for name, value in headers if value is not None]
        scope = {"type": kind, "path": unquote(path), "headers": headers, "query_string": query}
        sent = []

        async def send(message):
            sent.append(message)

        asyncio.run(self.app(scope | ({"method": method} if kind == "http" else {}), None, send))
        first = sent[0]
        return first.get("status", first["type"]), dict(first.get("headers", []))


@pytest.fixture
def page():
    return Page()


@pytest.mark.parametrize(
    "other",
    [
        'a="b;c',
        "novalue",
        "=",
        "a=\xe9\xff",
        'a[]={"x": 1}',
        "$Version=1",
        "a=b=c==",
        "a b=c d",
        "\xff=\x80",
        ";;;",
        'a="\\',
    ],
)
def test_odd_cookie_of_another_site_closes_nothing(page, other):
    for cookie in (f"{other}; {page.cookie}", f"{page.cookie}; {other}", f"{page.cookie};{other}"):
        assert page.ask("/config", cookie=cookie)[0] == 200, cookie
    assert page.ask("/config", cookie=f"{other}; {page.cookie}x")[0] == 403
    assert page.ask("/config", cookie=other)[0] == 403


def test_same_name_from_elsewhere_closes_nothing(page):
    name = page.cookie.partition("=")[0]
    assert page.ask("/config", cookie=f"{name}=evil; {page.cookie}")[0] == 200
    assert page.ask("/config", cookie=f"{name}=evil; x{page.cookie}")[0] == 403


@pytest.mark.parametrize(
    "host", [HOST, "localhost:7860", "localhost:9000", "127.0.0.1:9000", "LOCALHOST:80", "localhost"]
)
def test_tunnel_to_another_port_of_this_machine_is_let_in(page, host):
    for kind in ("http", "websocket"):
        expected = 200 if kind == "http" else "websocket.accept"
        assert page.ask("/queue/join", "POST", host, f"http://{host}", kind=kind)[0] == expected
        for origin in (
            "http://localhost:1",
            "http://evil.example",
            "null",
            f"https://{host}",
            f"http://{host}.evil.example",
        ):
            assert page.ask("/queue/join", "POST", host, origin, kind=kind)[0] in (403, "websocket.close"), origin
    assert page.ask("/queue/join", "POST", host, f"http://{host}", cookie=None)[0] == 403


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:7860",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "[::1]:7860",
        "",
        "10.0.0.1",
        "localhost:7860@evil.example",
        "localhost:x",
        "127.0.0.1:7860, evil.example",
    ],
)
def test_host_that_is_not_this_machine_is_refused_with_the_secret_too(page, host):
    assert page.ask("/config", host=host)[0] == 403
    assert page.ask("/", host=host, query=page.query)[0] == 403
    assert page.ask("/queue/join", "POST", host, f"http://{host}")[0] == 403
    assert page.ask("/config", host=None)[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/%2e%2e/",
        "/assets/%2e%2e/x",
        "/assets/..%2fx",
        "//file=/etc/passwd",
        "/file=/etc/passwd",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/gradio_api/file=/x",
        "/gradio_api//file/x",
        "/gradio_api/upload",
        "/upload",
        "/proxy=http://e",
        "/gradio_api/stream/x",
        "/monitoring/x",
        "/component_server",
        "/%66ile=/etc/passwd",
        "/deep_link",
        "/login/callback",
        "/gradio_api/custom_component/x",
    ],
)
def test_what_the_page_does_not_need_is_refused_with_the_secret_too(page, path):
    for method in ("GET", "HEAD", "POST", "PUT", "OPTIONS"):
        assert page.ask(path, method)[0] == 403
    assert page.ask(path, kind="websocket")[0] == "websocket.close"


def test_nothing_is_had_without_the_secret(page):
    for kind, expected in (("http", 403), ("websocket", "websocket.close")):
        for path in ("/", "/config", "/queue/data", "/assets/x.js"):
            assert page.ask(path, cookie=None, kind=kind)[0] == expected
            assert page.ask(path, "HEAD", cookie=None, kind=kind)[0] == expected
    assert page.ask("/config", "HEAD")[0] == 200
