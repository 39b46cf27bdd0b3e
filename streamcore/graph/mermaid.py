"""A picture as Mermaid text, which code hosts draw where it stands in a document.

Ids and labels may be any text. Nodes are therefore numbered (a node called `end` would end the diagram), and in labels everything
but letters, digits and a few harmless marks is written as its number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from streamcore.graph.picture import JOB, NODE, SINK, SOURCE, UNKNOWN, Group, Picture

_SHAPES = {SOURCE: ("([", "])"), NODE: ("[", "]"), SINK: ("[[", "]]"), JOB: ("{{", "}}"), UNKNOWN: ("(", ")")}
_INDENT = "  "
_UNSAFE = re.compile(r"[^\w .,/+=-]|(?<![^\W_])_|_(?![^\W_])")  # an underscore within a word is harmless, at its end it begins italics
_LIST = re.compile(r"^(\d+)\.|^([-+]) ")  # labels are read as Markdown, where these begin a list


def mermaid(picture: Picture) -> str:
    numbers: dict[str, str] = {}
    lines = ["flowchart LR", *_group(picture.whole, numbers, _INDENT)]
    for edge in picture.edges:
        arrow = "-.->" if edge.back else "-->"
        lines.append(f"{_INDENT}{numbers[edge.from_node]} {arrow}|{_label(*edge.words)}| {numbers[edge.to_node]}")
    return "\n".join(lines) + "\n"


def _group(group: Group, numbers: dict[str, str], indent: str) -> Iterator[str]:
    for node in group.nodes:
        numbers[node.id] = name = f"n{len(numbers)}"
        begin, end = _SHAPES[node.shape]
        yield f"{indent}{name}{begin}{_label(node.id, node.plugin)}{end}"
    for inner in group.groups:
        # The name is taken from the first node in it, as groups have no numbers of their own.
        yield f"{indent}subgraph g{len(numbers)}_{inner.id.count('.')}[{_label(inner.id)}]"
        yield from _group(inner, numbers, indent + _INDENT)
        yield f"{indent}end"


def _label(*lines: str) -> str:
    """Quoted. No label holds a colon: Mermaid takes `style...:` before an escaped character for a statement, and eats its end."""
    return '"' + "<br/>".join(map(_escaped, lines)) + '"'


def _escaped(text: str) -> str:
    text = _UNSAFE.sub(lambda match: f"#{ord(match[0])};", text)
    return _LIST.sub(lambda match: f"{match[1]}#46;" if match[1] else f"#{ord(match[2])}; ", text)
