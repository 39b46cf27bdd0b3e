"""Write the package of a new node: names that fit together, files that are never written over."""

from __future__ import annotations

import keyword
import re
import shlex
import sys
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from string import Template

from streamcore.authoring import templates
from streamcore.errors import StreamcoreError
from streamcore.limits import ID_PATTERN
from streamcore.plugins.naming import GROUP, NAME, names

NAME_CHARS_MAX = 64
SPEC = "pipeline.yaml"
USED_IN_TEMPLATES = {"Iterator", "Node", "Port", "Sink", "Source", "StreamPacket"}


class NameRefused(StreamcoreError):
    """A name that no plugin can have, or that something else has."""

    fault = "spec"


class NotWritten(StreamcoreError):
    """The box did not let a file be written."""

    fault = "box"


@dataclass(frozen=True)
class Package:
    """The names of one new package: acme.blur is the module acme_blur, the distribution acme-blur, the class Blur."""

    plugin: str
    kind: str  # source, node or sink
    module: str
    distribution: str
    cls: str

    @classmethod
    def of(cls, plugin: str, kind: str) -> Package:
        """Raises NameRefused: says what was found and what is expected."""
        if not NAME.fullmatch(plugin) or len(plugin) > NAME_CHARS_MAX:
            shown = plugin if len(plugin) <= NAME_CHARS_MAX else f"{plugin[:40]}..."
            near = re.sub(r"[^a-z0-9_.-]+", "_", plugin.lower())
            hint = f"; did you mean {near!r}?" if near != plugin and NAME.fullmatch(near) and len(near) <= NAME_CHARS_MAX else ""
            what = f"at most {NAME_CHARS_MAX} of a-z, 0-9, _ and -, in parts with dots between, beginning with a letter, such as acme.blur"
            raise NameRefused(f"found {shown!r}, expected {what}{hint}")
        words = [word for word in re.split(r"[._-]+", plugin) if word]
        module = "_".join(words)
        package = cls(plugin, kind, module, "-".join(words), _class_name(plugin, words))
        package._refuse_what_is_taken()
        return package

    def _refuse_what_is_taken(self) -> None:
        advice = f"put a name of your own in front, such as acme.{self.plugin}"
        registered = names().get(self.plugin)
        if registered:
            raise NameRefused(f"a plugin {self.plugin!r} is installed already ({registered}); choose another name")
        if keyword.iskeyword(self.module) or self.module in sys.stdlib_module_names:
            raise NameRefused(f"its package would be {self.module!r}, a name of Python's own; {advice}")
        if _is_importable(self.module):
            raise NameRefused(f"its package would be {self.module!r}, and there is a module of that name; {advice}")

    def files(self) -> dict[str, str]:
        """Path below the package's folder to text."""
        run = self.distribution[:32].rstrip("-")
        assert re.fullmatch(ID_PATTERN, run)
        fields = {
            "plugin": self.plugin,
            "module": self.module,
            "distribution": self.distribution,
            "cls": self.cls,
            "kind": self.kind,
            "run": run,
            "group": GROUP,
            "spec": SPEC,
            "version": metadata.version("streamcore"),
        }
        texts = {
            "pyproject.toml": templates.PYPROJECT,
            "README.md": templates.README,
            f"{self.module}/__init__.py": templates.INIT,
            f"{self.module}/node.py": templates.NODE[self.kind],
            f"tests/test_{self.module}.py": templates.TEST_HEAD + templates.TEST[self.kind] + templates.TEST_TAIL,
            SPEC: templates.SPEC[self.kind],
        }
        return {path: Template(text).substitute(fields) for path, text in texts.items()}

    def next_steps(self, folder: Path) -> list[str]:
        """Command lines, with what each is for."""
        at, spec = shlex.quote(str(folder)), shlex.quote(str(folder / SPEC))
        steps = [
            (f"pip install -e {at}", "without a network: add --no-build-isolation"),
            (f"pytest {at}", ""),
            (f"streamctl node check {self.plugin}", ""),
            (f"streamctl validate {spec}", ""),
            (f"streamctl up {spec} --for 3s", ""),
        ]
        width = max(len(command) for command, _ in steps)
        return [f"{command:<{width}}  # {remark}" if remark else command for command, remark in steps]


def _class_name(plugin: str, words: list[str]) -> str:
    """Of the last part if that makes one: acme.blur is Blur, acme.8n is Acme8n."""
    last = [word for word in re.split(r"[_-]+", plugin.rpartition(".")[2]) if word]
    for chosen in (last, words):
        name = "".join(word[:1].upper() + word[1:] for word in chosen)
        if name[:1].isalpha() and name not in USED_IN_TEMPLATES:
            return name
    return f"{name}Plugin"


def _is_importable(module: str) -> bool:
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):  # of a half installed one
        return True


def write(package: Package, folder: Path) -> list[Path]:
    """Write the files of a package below `folder`, which is made; their paths.

    Raises:
      FileExistsError: `filename` is in the way; nothing was written.
      OSError: the box refused.
    """
    texts = {folder / path: text for path, text in package.files().items()}
    for path in texts:
        # A parent that is a file is in the way as well.
        for place in (path, *path.parents):
            if place.is_symlink() and not place.exists():
                raise FileExistsError(17, "exists", str(place))
            if place.exists() and (place == path or not place.is_dir()):
                raise FileExistsError(17, "exists", str(place))
            if place == folder:
                break
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    return list(texts)
