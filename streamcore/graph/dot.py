"""A picture in the language of Graphviz, whose `dot` draws it."""

from __future__ import annotations

from collections.abc import Iterator

from streamcore.graph.picture import JOB, NODE, SINK, SOURCE, UNKNOWN, Group, Picture

_SHAPES = {
    SOURCE: "shape=oval",
    NODE: "shape=box",
    SINK: "shape=box, peripheries=2",
    JOB: "shape=hexagon",
    UNKNOWN: 'shape=box, style="rounded"',
}
_INDENT = "  "


def dot(picture: Picture) -> str:
    lines = [
        f"digraph {_quoted(picture.title)} {{",
        f"{_INDENT}rankdir=LR",
        f'{_INDENT}node [fontname="sans-serif", fontsize=11]',
        f'{_INDENT}edge [fontname="sans-serif", fontsize=9]',
        *_group(picture.whole, _INDENT),
    ]
    for edge in picture.edges:
        style = ", style=dashed" if edge.back else ""
        lines.append(f"{_INDENT}{_quoted(edge.from_node)} -> {_quoted(edge.to_node)} [label={_quoted(*edge.words)}{style}]")
    return "\n".join([*lines, "}"]) + "\n"


def _group(group: Group, indent: str) -> Iterator[str]:
    for node in group.nodes:
        yield f"{indent}{_quoted(node.id)} [label={_quoted(node.id, node.plugin)}, {_SHAPES[node.shape]}]"
    for inner in group.groups:
        yield f"{indent}subgraph {_quoted(f'cluster {inner.id}')} {{"
        yield f'{indent}{_INDENT}label={_quoted(inner.id)}; fontname="sans-serif"; fontsize=11; style="rounded"'
        yield from _group(inner, indent + _INDENT)
        yield f"{indent}}}"


def _quoted(*lines: str) -> str:
    r"""Lines as one text. In a label a backslash begins an escape (\N is the node's name) and an ampersand an entity."""
    return '"' + r"\n".join(map(_escaped, lines)) + '"'


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
