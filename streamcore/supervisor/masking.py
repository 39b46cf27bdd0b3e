"""Keep secrets out of what is written down: by the name of a setting, and by the look of a text. Pure.

Masking errs on the side of too much. It knows what secrets are called and how they stand in URLs and log lines, not the secrets
themselves: what hides under an innocent name stays.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "***"
_NAMES = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH|COOKIE|PRIVATE|SIGNATURE|SESSION|OTLP_(?:\w+_)?HEADERS", re.IGNORECASE)
_HARMLESS = {"PWD", "OLDPWD", "KEYBOARD", "SSH_AUTH_SOCK", "XAUTHORITY", "XDG_SESSION_ID", "XDG_SESSION_TYPE", "DBUS_SESSION_BUS_ADDRESS"}
_URL = re.compile(r"(\b[a-z][a-z0-9+.-]{1,20}://)[^\s/?#@'\"]*(?:@[^\s/?#@'\"]*)*@", re.IGNORECASE)
_ASSIGNED = re.compile(  # bounded repeats: a log line may be anything, and as long as the log
    r"""((?:api[_-]?key|access[_-]?key|private[_-]?key|token|secret|passw(?:or)?d|passphrase|pwd|signature)[\w-]{0,32}['"]?\s{0,4}[=:]\s{0,4})"""
    r"""(?:"[^"]*"|'[^']*'|[^\s&,;'"]+)""",
    re.IGNORECASE,
)
_WORDS = ("key", "token", "secret", "passw", "passphrase", "pwd", "signature")  # SYNC: one of them is in whatever _ASSIGNED matches
_BEARER = re.compile(r"\b((?:bearer|basic)\s{1,4})[\w.~+/=-]{6,}", re.IGNORECASE)


def is_secret(name: str) -> bool:
    """Is a setting of this name likely to hold a secret?"""
    return name not in _HARMLESS and _NAMES.search(name) is not None


def mask_text(text: str) -> str:
    """A text without credentials in URLs, without values assigned to secret names, without bearer tokens."""
    folded = text.casefold()  # the words are sought first: patterns take a microsecond per character, and logs are long
    if "://" in folded and "@" in folded:
        text = _URL.sub(rf"\1{MASK}@", text)
    if "bearer" in folded or "basic" in folded:
        text = _BEARER.sub(rf"\1{MASK}", text)
    if any(word in folded for word in _WORDS):
        text = _ASSIGNED.sub(rf"\1{MASK}", text)
    return text


def mask_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """All names, sorted, with the values of secret ones masked."""
    return {name: MASK if is_secret(name) and value else mask_text(value) for name, value in sorted(environ.items())}


def mask(value: Any) -> Any:
    """The same for a JSON value at every depth. Numbers, true and false are no secrets, whatever they are called."""
    if isinstance(value, str):
        return mask_text(value)
    if isinstance(value, dict):
        return {key: MASK if _hides(key, inner) else mask(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mask(inner) for inner in value]
    return value


def _hides(key: Any, inner: Any) -> bool:
    return isinstance(key, str) and is_secret(key) and bool(inner) and isinstance(inner, (str, list, dict, tuple))
