"""Values that are used and never shown: `!secret env:NAME` and `!secret file:PATH`.

A Secret is no text on purpose: whatever prints, encodes or joins it gets `***` or an error, and only `reveal()` gives the value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

MASK = "***"
SECRET_BYTES_MAX = 64 * 1024
MASKED_CHARS_MIN = 4  # shorter ones would mask half of every text; whole values of any length are masked by their type


class SecretRef:
    """`!secret TEXT` as it is written; `resolve` reads what it names."""

    __slots__ = ("text",)

    def __init__(self, text: str):
        self.text = text

    def resolve(self, environ: Mapping[str, str], folder: Path) -> Secret:
        """The value of the environment variable or of the file, without one line end; files are sought from `folder`.

        Raises:
          LookupError: (found, expected) as a problem states them.
        """
        kind, colon, name = self.text.partition(":")
        if not colon or kind not in ("env", "file") or not name:
            found = f"the secret '{kind}:'" if colon and kind in ("env", "file") else "a secret that does not say where it is"
            raise LookupError(found, "!secret env:NAME or !secret file:PATH")  # what else is written there may be the value itself
        if kind == "env":
            value = environ.get(name)
            if not value:
                raise LookupError(f"no environment variable {name}" if value is None else f"an empty {name}", f"the secret in ${name}")
            return Secret(value, self.text)
        try:
            with open(folder / name, "rb") as file:
                raw = file.read(SECRET_BYTES_MAX + 1)
            text = raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except (OSError, ValueError) as error:  # ValueError: not UTF-8, or a NUL in the path
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "not text in UTF-8"
            raise LookupError(f"{name}: {reason}", "a readable file that holds the secret") from None
        if len(raw) > SECRET_BYTES_MAX or not text:
            raise LookupError(f"{name}: {'empty' if not text else f'more than {SECRET_BYTES_MAX} bytes'}", "a file that holds the secret")
        return Secret(text, self.text, anywhere=f"file:{(folder / name).absolute()}")


class Secret:
    """A value and where it came from, e.g. `env:NAME`. Of text that contains secrets, `parts` are the pieces, plain ones and Secrets.

    `anywhere` is the source as a spec in another folder has to name it.
    """

    __slots__ = ("_value", "anywhere", "parts", "source")

    def __init__(self, value: Any, source: str, parts: tuple[Any, ...] = (), anywhere: str = ""):
        self._value, self.source, self.parts, self.anywhere = value, source, parts, anywhere or source

    def reveal(self) -> Any:
        return self._value

    def __repr__(self) -> str:
        return MASK

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self.source)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: Any) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere")


def revealed(value: Any) -> Any:
    """A copy of nested values with every secret as what it stands for."""
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, Mapping):
        return {key: revealed(item) for key, item in value.items()}
    return [revealed(item) for item in value] if isinstance(value, (list, tuple)) else value


def masked(value: Any) -> Any:
    """A copy of nested values with every secret as `***`."""
    if isinstance(value, Secret):
        return MASK
    if isinstance(value, Mapping):
        return {key: masked(item) for key, item in value.items()}
    return [masked(item) for item in value] if isinstance(value, (list, tuple)) else value


def secrets_in(value: Any) -> Iterator[Secret]:
    """Every secret in nested values."""
    if isinstance(value, Secret):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from secrets_in(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from secrets_in(item)


def keep_secrets(written: Any, normalised: Any) -> Any:
    """`normalised`, checked from the revealed copy of `written`, with the secrets of `written` in their places again."""
    if isinstance(written, Secret):
        return Secret(normalised, written.source, written.parts, written.anywhere)
    if isinstance(written, Mapping) and isinstance(normalised, Mapping):
        return {key: keep_secrets(written.get(key), item) for key, item in normalised.items()}
    if isinstance(written, (list, tuple)) and isinstance(normalised, (list, tuple)) and len(written) == len(normalised):
        return [keep_secrets(one, item) for one, item in zip(written, normalised, strict=True)]
    return normalised


def reveal_hook(value: Any) -> Any:
    """enc_hook of msgspec, for what goes to the process that needs the value and nowhere else."""
    if isinstance(value, Secret):
        return value.reveal()
    raise TypeError(f"{type(value).__name__} cannot be written")


def mask_hook(value: Any) -> Any:
    """enc_hook of msgspec, for what people and programs may see."""
    if isinstance(value, Secret):
        return MASK
    raise TypeError(f"{type(value).__name__} cannot be written")


class Masker:
    """Takes known secrets out of text."""

    def __init__(self, values: Iterable[Any]):
        texts = {str(value) for value in values}
        self._texts = sorted((text for text in texts if len(text) >= MASKED_CHARS_MIN), key=len, reverse=True)

    def __bool__(self) -> bool:
        return bool(self._texts)

    def mask_all(self, value: Any) -> Any:
        """A copy of nested values with every text masked."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, Mapping):
            return {key: self.mask_all(item) for key, item in value.items()}
        return [self.mask_all(item) for item in value] if isinstance(value, (list, tuple)) else value

    def mask(self, text: str) -> str:
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, MASK)
        return text
