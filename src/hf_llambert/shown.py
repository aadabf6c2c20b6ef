"""Commands, settings and messages as they may be published: without credentials and without local paths."""

from __future__ import annotations

import ipaddress
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath
from urllib.parse import urlsplit

HIDDEN = "..."
"""Stands where something was left out."""

_TOKENS = re.compile(
    r"\b(?:hf|api_org|gsk|r8|npm)_[A-Za-z0-9]{16,}"
    r"|\bgh[pousr]_[A-Za-z0-9]{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}|\bxox[a-z]-[\w-]{10,}"
    r"|\b(?:sk|pk|rk)[-_](?=[\w-]*\d)[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{12,}|\bAIza[\w-]{30,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"
    r"|(?<=\bBearer )\S+",
)
_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://[^\s\"'<>|]+")
_QUERY = re.compile(r"[?&][\w.%~-]+=[^\s\"'<>|]*")
_LOGIN = re.compile(r"(?<![\w@/.])[^\s\"'<>|/:@=,]+:[^\s\"'<>|/]+@(?=\[?\w)")  # ana:word@host, without a scheme
_NAMED = re.compile(
    r"\b((?:proxy-)?authorization|(?:x-)?api[-_]?key|(?:access|auth|secret)[-_](?:key|token)|password|passwd|secret)"
    r"(\\?[\"']?\s*[:=]\s*\\?[\"']?)(?:(?:Bearer|Basic|Token)\s+)?(?!\.\.\.)[^\s\"'<>|,;}]+",
    re.IGNORECASE,
)
_BARE = re.compile(
    r"(?<![\w.-])(?:(?P<four>(?:\d{1,3}\.){3}\d{1,3})|\[(?P<six>[0-9a-f:.]+)(?:%\w+)?\]|(?P<bare>(?:f[cd][0-9a-f]{2}|fe80|::)[0-9a-f:.]*)"
    r"|(?P<name>localhost|(?:[\w-]+\.)+(?:local|internal|lan|localhost|home|intranet|corp|private|home\.arpa)))"
    r"(?::\d{1,5})?(?!\w|[.-]\w)",
    re.IGNORECASE,
)
_PORT = re.compile(r"(?<![\w./:-])[A-Za-z][\w-]*:\d{4,5}(?![\w:])")  # gpu-07:8000
_PATH = re.compile(r"(?<![\w./:~-])(?:~|\.\.)?(?:/[\w.+@-]+){2,}/?|(?<![\w:])(?:[A-Za-z]:|\\)\\[^\s\"'<>|]+")
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:token|(?:api_?)?key|keys|secret|password|passwd|credentials?|authorization|headers?|api_key_variable)(?:_|$)"
)
_MANY_SETTINGS = re.compile(r"(?:^|_)(?:extra_body|extra|kwargs|request_parameters)$")
_LOCAL_ENDINGS = (".local", ".internal", ".lan", ".localhost", ".home", ".intranet", ".corp", ".private", ".home.arpa")


def shown_command(argv: Sequence[str]) -> str | None:
    """
    A command as another user would type it, to be published: no folder of this machine, no credential. `None` where
    there is none, as in a notebook.
    """
    program = Path(argv[0]) if argv and argv[0] else None
    if program is None or (program.name != "hf-llambert" and "recipes" not in program.parts):
        return None
    words = ["hf-llambert"] if program.name == "hf-llambert" else ["accelerate", "launch", f"recipes/{program.name}"]
    hidden = False
    for argument in argv[1:]:
        option, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
        secret = bool(option) and _is_secret(option)
        if secret and equals:
            words.append(f"{option}={HIDDEN}")
        elif argument.startswith("--") and not equals:
            words.append(without_credentials(argument))
        elif hidden:
            words.append(HIDDEN)
        else:
            words.append(option + equals + _shown_value(value))
        hidden = secret and not equals
    return shlex.join(words)


def scrubbed(value: object, name: str = "") -> object:
    """
    A value that JSON knows, as it may be published: see [`scrubbed_text`]. Of a teacher's settings that may carry a key
    (`extra_body`, `api_key_variable`, ...) the names alone are left. A task keeps every word but credentials. Reasons with
    their counts are [`scrubbed_reason`].
    """
    if isinstance(value, str):
        return scrubbed_text(value)
    if isinstance(value, (list, tuple)):
        return [scrubbed(one) for one in value]
    if not isinstance(value, Mapping):
        return value
    if name == "task":
        return _without_credentials_in(value)
    if name == "reasons":
        return _scrubbed_reasons(value)
    named = isinstance(value.get("teacher"), str) or name == "arguments"  # else a key may be a label of the task
    return {
        key: _names(one) if named and one and _is_secret(str(key)) else scrubbed(one, str(key))
        for key, one in value.items()
    }


def scrubbed_text(text: str) -> str:
    """
    A text without tokens, and its addresses without user, password and query; a private host's is left out, with a scheme or
    without. So is what stands beside `password`, `api_key` and the like.
    """
    text = _URL.sub(lambda match: _shown_url(match[0]), text)
    text = _LOGIN.sub("", _QUERY.sub("", text))
    text = _NAMED.sub(lambda match: f"{match[1]}{match[2]}{HIDDEN}", text)
    return without_credentials(_BARE.sub(_shown_host, text))


def scrubbed_reason(text: str) -> str:
    """
    Why a text failed, as it may be published: [`scrubbed_text`], and without `host:port` and paths, as what a server said of
    itself may name them.
    """
    return _PATH.sub(HIDDEN, _PORT.sub(HIDDEN, scrubbed_text(text)))


def without_credentials(text: str) -> str:
    """A text with `...` for what looks like a token or key of a known service."""
    return _TOKENS.sub(HIDDEN, text)


def is_private_host(host: str) -> bool:
    """Whether an address is not surely one of the public Internet."""
    try:
        return not ipaddress.ip_address(host).is_global
    except ValueError:
        host = host.rstrip(".").lower()
        if not re.fullmatch(r"[a-z0-9._-]+", host):  # IDNA may turn it into another name
            return True
        return "." not in host or host.endswith(_LOCAL_ENDINGS) or host.rpartition(".")[2].isdigit()


def _is_secret(name: str) -> bool:
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.lstrip("-"))
    plain = re.sub(r"[.-]", "_", words.lower())
    return bool(_SECRET_NAME.search(plain) or _MANY_SETTINGS.search(plain))


def _shown_value(value: str) -> str:
    """A word of a command line; JSON, and a file of it that curl's sign names, may carry anything."""
    if value.lstrip(" \t\n\"'").startswith(("{", "[", "@")):
        return HIDDEN
    return _without_place(scrubbed_text(value)) if value else value


def _shown_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        at = f":{parts.port}" if parts.port else ""
    except ValueError:
        return HIDDEN
    scheme = parts.scheme.lower()
    if scheme == "file" or (scheme in ("http", "https", "ws", "wss", "ftp", "grpc") and is_private_host(host)):
        return HIDDEN
    place = parts.netloc.rpartition("@")[2] if not at else f"{host}{at}"
    return f"{parts.scheme}://{place}{parts.path}"


def _shown_host(match: re.Match[str]) -> str:
    """A host without a scheme, if it is a public one."""
    host = match["four"] or match["six"] or match["bare"]
    if host is None:
        return HIDDEN
    try:
        return match[0] if ipaddress.ip_address(host).is_global else HIDDEN
    except ValueError:
        return match[0]


def _scrubbed_reasons(counts: Mapping) -> dict:
    out: dict = {}
    for reason, count in counts.items():
        shown = scrubbed_reason(str(reason))
        out[shown] = out[shown] + count if shown in out else count
    return out


def _without_place(value: str) -> str:
    """A path of this machine as its last part; anything else as it is."""
    if re.match(r"[A-Za-z]:[\\/]|\\\\", value):
        return PureWindowsPath(value).name
    path = Path(value)
    return path.name if path.is_absolute() or path.parts[:1] == ("..",) or value.startswith("~") else value


def _names(value: object) -> object:
    """The names of settings in JSON; [`HIDDEN`] where it is no JSON object."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return HIDDEN
    return sorted(without_credentials(str(key)) for key in value) if isinstance(value, Mapping) else HIDDEN


def _without_credentials_in(value: object) -> object:
    if isinstance(value, str):
        return without_credentials(value)
    if isinstance(value, Mapping):
        return {key: _without_credentials_in(one) for key, one in value.items()}
    return [_without_credentials_in(one) for one in value] if isinstance(value, (list, tuple)) else value
