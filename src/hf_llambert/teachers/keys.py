"""The API key of an endpoint: which hosts get it, and how it is removed from all that is shown or stored."""

from __future__ import annotations

import base64
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from hf_llambert.tasks.spec import TaskSpec

NO_KEY = "-"
"""Sent where no key is meant to go: without one, huggingface_hub would send the Hub's token to any server."""

_HUB = frozenset(("huggingface.co", "hf.co", "router.huggingface.co", "api-inference.huggingface.co"))
_OPENAI = "api.openai.com"
_NETWORKS = tuple(
    map(
        ipaddress.ip_network,
        ("0.0.0.0/32", "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16")
        + ("::/128", "::1/128", "fc00::/7", "fe80::/10"),
    )
)
_PRIVATE_NAMES = (".local", ".internal", ".lan", ".localhost")
_SHORTEST = 8  # characters of a key
_WORDS = re.compile(r"[A-Za-z]+(?:[_-][A-Za-z]+)*")  # "EMPTY", "none", "no-key-required", "positive"
_LONGEST_WORDS = 24  # letters of such a stand-in


def is_private(host: str) -> bool:
    """
    Whether a host is this machine or one of a private network: an address of one, a name without a dot, or one that ends
    as such names do. A number in another form (`134744072`, `0x7f.1`) is public, since readers differ in what it
    means. So is a host with other signs than [`is_plain_host`] allows, which IDNA may turn into another name.
    """
    host = host.lower()
    if not is_plain_host(host):
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        last = host.rstrip(".").rsplit(".", 1)[-1]
        if not last or re.fullmatch(r"\d+|0x[0-9a-f]*", last):
            return False
        return "." not in host or host.endswith(_PRIVATE_NAMES)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address.version == network.version and address in network for network in _NETWORKS)


def is_plain_host(host: str) -> bool:
    """Whether a host means the same to everyone who reads it: ASCII letters, digits, dots, colons, hyphens, underscores."""
    return re.fullmatch(r"[A-Za-z0-9.:_-]+", host) is not None


def endpoint_key(variable: str | None, url: str | None) -> str:
    """
    The key that goes to an address, read when it is needed and kept nowhere; [`NO_KEY`] where none is meant to go.

    Args:
        variable (`str`, *optional*): The environment variable that holds it.
        url (`str`, *optional*): The address; the Hub where there is none.

    Raises:
        PermissionError: There is none in the variable, it is no key, or it would go in the clear.
    """
    from huggingface_hub import get_token

    host = (urlsplit(url).hostname or "").lower() if url else "huggingface.co"
    if variable:
        key, source = os.environ.get(variable) or "", f"The environment variable {variable}"
        if not key:
            raise PermissionError(f"{source} is empty. Put the key there.")
    elif host in _HUB:
        key, source = get_token() or NO_KEY, "The Hub's token"
    elif host == _OPENAI:
        key, source = os.environ.get("OPENAI_API_KEY") or NO_KEY, "The environment variable OPENAI_API_KEY"
    else:
        return NO_KEY
    if not all("!" <= c <= "~" for c in key):
        raise PermissionError(
            f"{source} holds no key: keys are printable ASCII without blanks, and this one has a blank, a line break or another "
            f"character in it, or around it. Was it copied with its line's end?"
        )
    if url is None and key == NO_KEY:
        raise PermissionError(
            "The Hub's providers need a token. Log in with hf auth login, set HF_TOKEN, or pass base_url for another server."
        )
    if url is None and variable and not key.startswith("hf_"):
        raise PermissionError(
            f"{source} holds no token of the Hub (hf_...), and no other key is sent to the Hub. For a provider's own key pass "
            f"that provider's base_url and its name of the model."
        )
    if key == NO_KEY or is_private(host):
        return key
    if url and urlsplit(url).scheme.lower() != "https":
        raise PermissionError(f"A key is not sent to '{url}' in the clear. Use https.")
    if variable and not looks_like_key(key):
        raise PermissionError(
            f"{source} holds a word or a few characters, no key, and '{host}' is not this machine or a private network. Put the "
            f"key there, or leave out api_key_variable."
        )
    return key


def looks_like_key(key: str) -> bool:
    """
    Whether it is no stand-in, such as servers want that check none (`EMPTY`, `none`, `x`). A stand-in may be a word of an
    answer, so it is not replaced there; it goes to no public server as a key.
    """
    return len(key) >= _SHORTEST and not (len(key) <= _LONGEST_WORDS and _WORDS.fullmatch(key))


def redactor(key: str) -> Callable[[str], str]:
    """A function that replaces a key by `***`, also where it is escaped as in JSON, an address or HTML, or in base64."""
    if not looks_like_key(key):
        return lambda text: text
    forms = [key, *_base64_forms(key)]
    found = re.compile("|".join(map(_any_spelling, forms)), re.IGNORECASE)
    return lambda text: found.sub("***", text)


def check_labels(tasks: Iterable[TaskSpec], redact: Callable[[str], str], variable: str | None) -> None:
    """
    Refuse a key that, taken out of answers, would take a label out of them.

    Args:
        tasks (`Iterable[TaskSpec]`): What is asked.
        redact (`Callable[[str], str]`): From [`redactor`].
        variable (`str`, *optional*): The environment variable that holds the key.

    Raises:
        ValueError: A label, a word of one or a question's name holds the key.
    """
    for task in tasks:
        for number, label in enumerate(task.labels):
            names = (question.name for question in task.questions)
            if any(redact(word) != word for word in (*names, label, *task.verbalizers[number])):
                raise ValueError(
                    f"The key{f' in {variable}' if variable else ''} is, or stands in, a word of label {number + 1} of task "
                    f"'{redact(task.name)}' (id {number}), and every such answer would be kept as ***. Put the right key "
                    f"there, or rename that label in the task; nothing was sent."
                )


def _base64_forms(key: str) -> Iterator[str]:
    """The base64 characters that a key always gives, at any position in an encoded text (`user:KEY`)."""
    for before in range(3):
        whole = base64.b64encode(bytes(before) + key.encode()).decode()
        sure = whole[-(-8 * before // 6) : 8 * (before + len(key)) // 6]
        yield sure
        yield sure.replace("+", "-").replace("/", "_")


def _any_spelling(key: str) -> str:
    """A pattern of a key. It begins at a sign of its own, so that a long row of backslashes is read once, not once from each."""
    return _any_form(key[0], "") + "".join(_any_form(c, r"\\*") for c in key[1:])


def _any_form(c: str, before: str) -> str:
    code = ord(c)
    forms = [
        rf"{before}{re.escape(c)}",
        rf"{before}\\u00{code:02x}",
        rf"{before}\\x{code:02x}",
        rf"%(?:25)*{code:02x}",
    ]
    return (
        f"(?:{'|'.join(forms)}|&#0*{code};|&#x0*{code:x};"
        + {"&": "|&amp;", "<": "|&lt;", ">": "|&gt;"}.get(c, "")
        + ")"
    )
