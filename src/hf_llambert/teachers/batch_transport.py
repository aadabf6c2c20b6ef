"""Requests to a batch service that is not trusted: bounded answers, no redirects, files up and down."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from hf_llambert.teachers.keys import is_private, redactor
from hf_llambert.teachers.protocol import Unreadable, read_json, retry_after, server_message
from hf_llambert.teachers.transport import MOST_BYTES, one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx2

MOST_RESULT_BYTES = 4_000_000_000
"""Largest file of answers that is fetched."""

MOST_PAUSE = 3600.0
"""Longest pause that a service may ask for, in seconds."""

_PIECE = 1 << 16
_SLOWEST = 1000  # bytes a second, of an answer that takes longer than the timeout
_OVERLOADED = 529  # Anthropic's; a 503 may be a gateway's, behind which the request was carried out
T = TypeVar("T")
_LONGEST_WAIT = 60.0


class Refused(Exception):
    """The service refused a request, and would again."""

    def __init__(self, status: int, said: str) -> None:
        super().__init__(f"{status} {said}".strip())
        self.status, self.said = status, said


class Unsure(Exception):
    """No answer came, or one that leaves open whether the request was carried out. `pause` is what the service asked for."""

    def __init__(self, reason: str, pause: float = 0.0, surely_not: bool = False) -> None:
        super().__init__(reason)
        self.pause, self.surely_not = pause, surely_not


class Wire:
    """
    A connection to one service. Its key goes to this host alone.

    Args:
        service (`str`): The service's name, for errors.
        address (`str`): Where its paths begin.
        headers (`Mapping[str, str]`): What names the key and the protocol.
        key (`str`): The key, to take out of what is shown.
        timeout (`float`): Seconds that the service may be silent.
        attempts (`int`): Attempts of a request that may be repeated.
        first_wait (`float`): Seconds of the first pause between them at most; doubles.
    """

    def __init__(
        self,
        service: str,
        address: str,
        headers: Mapping[str, str],
        key: str,
        timeout: float = 120.0,
        attempts: int = 8,
        first_wait: float = 1.0,
    ) -> None:
        self.service, self.address, self.timeout = service, address.rstrip("/"), timeout
        self.attempts, self.first_wait = attempts, first_wait
        self.redact: Callable[[str], str] = redactor(key)
        self._client = _client(headers, timeout, self.address)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def url(self, path: str) -> str:
        """
        The address of a path, or a whole address that a service gave.

        Raises:
            ConnectionError: It is on another host than the service.
        """
        if path.startswith("/"):
            return self.address + path
        try:
            given, there = urlsplit(path).hostname or "an address that is none", _place(path)
        except ValueError:
            given, there = "an address that is none", None
        own = urlsplit(self.address)
        if there != _place(self.address):
            host = one_line(self.redact(given))
            raise ConnectionError(
                f"The service '{self.service}' sends to '{host}', and key and texts go to '{own.hostname}' alone. If you "
                f"trust that address, pass it as base_url."
            )
        return path

    def get(self, path: str, params: Mapping[str, str | int] | None = None) -> dict:
        """The JSON object at a path; repeated where that helps."""
        return self.patiently(lambda: self.once("GET", path, params=params))

    def once(self, method: str, path: str, **sent: object) -> dict:
        """
        One request whose answer is a JSON object.

        Raises:
            Refused: The service would refuse it again.
            Unsure: Nobody knows what became of it.
            ConnectionError: The service sends it to another address.
        """
        return self.answer(method, path, **sent)[0]

    def answer(self, method: str, path: str, **sent: object) -> tuple[dict, Mapping[str, str]]:
        """As [`~Wire.once`], with the headers of the answer."""
        with self._sent(method, path, **sent) as response:
            body = _bounded(response, self.timeout)
            headers = response.headers
        try:
            value = read_json(body) if body.strip() else {}
        except (ValueError, Unreadable, RecursionError):
            raise Unsure("the answer is no JSON that can be read") from None
        if not isinstance(value, dict):
            raise Unsure("the answer is no JSON object")
        return value, headers

    def fetch(self, path: str, file: IO[bytes], most: int, params: Mapping[str, str | int] | None = None) -> None:
        """
        Write what is at a path to a file, from where that stands; repeated from there where that helps.

        Raises:
            Refused: There is no such thing.
            ValueError: It is longer than `most` bytes.
        """
        start = file.tell()

        def once() -> None:
            file.seek(start)
            file.truncate()
            with self._sent("GET", path, params=params) as response:
                size = 0
                for piece in _pieces(response, self.timeout):
                    size += len(piece)
                    if size > most:
                        raise ValueError(
                            f"The service '{self.service}' gives more than {most:,} bytes of answers, more than was asked for "
                            f"can take. Nothing of it was used."
                        )
                    file.write(piece)
                expected = response.headers.get("Content-Length")
                if expected is not None and expected.isdigit() and int(expected) != size:
                    raise Unsure("the file of answers broke off")

        self.patiently(once)

    def patiently(self, once: Callable[[], T]) -> T:
        """
        The result of a request that may be repeated, after as many attempts as are allowed.

        Raises:
            ConnectionError: None succeeded, or the service wants to be left alone for long.
        """
        for attempt in range(1, self.attempts + 1):
            try:
                return once()
            except Unsure as error:
                self.pause(error, attempt)
        raise RuntimeError("no attempt was allowed")

    def carefully(self, once: Callable[[], T]) -> T:
        """
        The result of a request that must be carried out once; repeated while it surely was not.

        Raises:
            Unsure: Nobody knows whether it was carried out.
            ConnectionError: It was not, and no attempt is left.
        """

        def surely() -> T | Unsure:
            try:
                return once()
            except Unsure as error:
                if error.surely_not:
                    raise
                return error

        found = self.patiently(surely)
        if isinstance(found, Unsure):
            raise found
        return found

    def pause(self, error: Unsure, attempt: int) -> None:
        """
        Wait before another attempt.

        Raises:
            ConnectionError: There is none left, or the service wants to be left alone for long.
        """
        if attempt >= self.attempts or error.pause > MOST_PAUSE:
            tried = f"after {attempt} attempts" if error.pause <= MOST_PAUSE else f"for {error.pause:,.6g} s"
            raise ConnectionError(
                f"The service '{self.service}' does not answer ({tried}): {error}. Batches that it has go on; run again when it "
                f"is well."
            ) from None
        time.sleep(max(error.pause, random.uniform(0, min(_LONGEST_WAIT, self.first_wait * 2**attempt))))

    @contextmanager
    def _sent(self, method: str, path: str, **sent: object) -> Iterator[httpx2.Response]:
        import httpx2

        url = self.url(path)
        try:
            with self._client.stream(method, url, **sent) as response:  # type: ignore[arg-type]
                if not 200 <= response.status_code < 300:
                    raise self._fault(response)
                if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
                    raise Unsure("the answer is packed, which was not asked for")
                yield response
        except httpx2.InvalidURL as error:
            raise ConnectionError(f"'{self.address}' is no address: {one_line(str(error))}. Check base_url.") from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout):
            raise Unsure(f"'{self.address}' cannot be reached", surely_not=True) from None
        except httpx2.TimeoutException:
            raise Unsure(f"no answer within {self.timeout:g} s") from None
        except httpx2.HTTPError as error:
            raise Unsure(f"the connection broke: {type(error).__name__}") from None

    def _fault(self, response: httpx2.Response) -> Exception:
        status = response.status_code
        if 300 <= status < 400:
            try:
                host = urlsplit(response.headers.get("Location") or "").hostname or "itself"
            except ValueError:
                host = "an address that is none"
            return ConnectionError(
                f"'{self.address}' sends the request on to '{one_line(self.redact(host))}' ({status}), and no redirect is "
                f"followed, so that texts and key go nowhere else. If you trust that address, pass it as base_url."
            )
        said = one_line(self.redact(server_message(_bounded(response, self.timeout, strict=False))[0]))
        if status in (408, 425, 429) or status >= 500:
            pause = retry_after(response.headers.get("Retry-After"))
            return Unsure(f"{status} {said}".strip(), pause, surely_not=status in (425, 429, _OVERLOADED))
        return Refused(status, said)


def _place(address: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of an address."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)


def _client(headers: Mapping[str, str], timeout: float, address: str) -> httpx2.Client:
    """As [`~teachers.transport.make_client`], for one request at a time."""
    from http.cookiejar import CookieJar, DefaultCookiePolicy

    import httpx2

    parts = urlsplit(address)
    straight = parts.scheme.lower() != "https" and is_private(parts.hostname or "")
    return httpx2.Client(
        headers={**headers, "Accept": "application/json, */*", "Accept-Encoding": "identity"},
        timeout=timeout,
        follow_redirects=False,
        trust_env=not straight,
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    )


def _pieces(response: httpx2.Response, timeout: float) -> Iterator[bytes]:
    """The pieces of an answer, as long as they come at a pace that ends some day."""
    begun, size = time.monotonic(), 0
    for piece in response.iter_raw(_PIECE):
        size += len(piece)
        yield piece
        if time.monotonic() - begun > timeout + size / _SLOWEST:
            raise Unsure(f"the answer comes at less than {_SLOWEST:,} bytes a second")


def _bounded(response: httpx2.Response, timeout: float, strict: bool = True) -> bytes:
    body = bytearray()
    for piece in _pieces(response, timeout):
        body += piece
        if len(body) > MOST_BYTES:
            if strict:
                raise Unsure(f"the answer is longer than {MOST_BYTES:,} bytes")
            break
    return bytes(body[:MOST_BYTES])
