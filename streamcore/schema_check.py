"""JSON Schema checks of payloads, compiled by fastjsonschema, which is installed with `streamcore[schema]`."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from streamcore.errors import ConfigError

_PATH_CHARS_MAX = 80
_REMOTE = ("http", "https", "ftp", "file", "")


@lru_cache(maxsize=64)
def compiled(text: str) -> Callable[[Any], str]:
    """A check of values against the schema `text`: what a value breaks and where, never its content; "" if nothing.

    Raises:
      ConfigError: fastjsonschema is not installed, or the schema is none.
    """
    try:
        import fastjsonschema
    except ImportError:
        raise ConfigError("needs the package fastjsonschema: pip install 'streamcore[schema]', or `checks: off` at the node") from None
    known = _names_in(json.loads(text))
    try:
        validate = fastjsonschema.compile(json.loads(text), handlers=dict.fromkeys(_REMOTE, _refuse), use_default=False)
    except Exception as error:  # foreign code, which raises anything for a schema that is none
        raise ConfigError(f"is no JSON Schema that can be checked: {type(error).__name__}: {error}") from None

    def check(value: Any) -> str:
        try:
            validate(value)
        except fastjsonschema.JsonSchemaValueException as error:
            path = ".".join(part if part in known or (part.isdigit() and len(part) < 7) else "*" for part in map(str, error.path[1:]))
            return f"'{error.rule}' at {path[:_PATH_CHARS_MAX] or 'its top'}"
        return ""

    return check


def _refuse(uri: str) -> Any:
    raise ValueError(f"$ref to {uri}, only references within the schema are followed")


def _names_in(schema: Any) -> set[str]:
    """Every key of a schema: names that an error may show, for they are not the payload's own."""
    if isinstance(schema, dict):
        return set(schema).union(*map(_names_in, schema.values()))
    return set().union(*map(_names_in, schema)) if isinstance(schema, list) else set()
