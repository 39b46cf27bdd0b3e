"""streamctl graph: a spec as a picture."""

from __future__ import annotations

import subprocess

import click

from streamcore.cli.failures import CannotStart
from streamcore.cli.options import quiet_debug_option, spec_options
from streamcore.cli.writing import write_text

DOT_S = 60.0  # the layout of a thousand nodes takes half of it
_WITHOUT_DOT = "--format svg needs the program `dot`, which is not in PATH: install graphviz, or use --format mermaid"


@click.command(short_help="Draw a spec: Mermaid, Graphviz or SVG.")
@spec_options
@click.option("--format", "form", type=click.Choice(["mermaid", "dot", "svg"]), default="mermaid", show_default=True, help="What to print.")
@click.option("-o", "--output", "output", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to FILE.")
@click.option("--no-plugins", is_flag=True, help="Draw the structure only: no plugin is looked for, so no kinds, ports and default depths.")
@quiet_debug_option
def graph(
    spec: str, sets: dict[str, str], allow: tuple[str, ...], folders: tuple[str, ...], form: str, output: str | None, no_plugins: bool
) -> int:
    """Print the graph that SPEC describes as text to draw: nodes with their plugins, edges with kind, policy and depth.

    Sources are rounded, sinks have a double border, jobs six corners. What `for_each` or `include` has made stands in a box of its name.
    The same spec gives the same text. Mermaid is drawn by code hosts where it stands in a document; svg is drawn here, by the program
    `dot` of graphviz.

    \b
    Exit status:
      0  fine
      2  SPEC or the command line is wrong; all problems are printed. Or `dot` is missing, or FILE cannot be written

    \b
    Examples:
      streamctl graph specs/demo.yaml
      streamctl graph specs/demo.yaml --format svg -o demo.svg
    """
    from streamcore.graph.check import check_structure, examine
    from streamcore.graph.dot import dot
    from streamcore.graph.mermaid import mermaid
    from streamcore.graph.picture import picture_of
    from streamcore.graph.plan import plan_graph

    if no_plugins:
        picture = picture_of(check_structure(spec, sets, folders), None)
    else:
        wired = examine(spec, sets, allow, folders=folders, subgraph=True)
        picture = picture_of(wired, plan_graph(wired, None, None))
    text = mermaid(picture) if form == "mermaid" else dot(picture)
    if form == "svg":
        text = _drawn(text)
    if output is None:
        click.echo(text, nl=False)
        return 0
    write_text(output, text, spec)
    click.echo(f"{output}: written")
    return 0


def _drawn(text: str) -> str:
    """SVG of a text for dot. Raises CannotStart."""
    try:
        done = subprocess.run(["dot", "-Tsvg"], input=text.encode(), capture_output=True, timeout=DOT_S, check=True)
    except FileNotFoundError:
        raise CannotStart(_WITHOUT_DOT) from None
    except OSError as error:
        raise CannotStart(f"dot cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise CannotStart(f"dot has not drawn the graph within {DOT_S:g} s; --format mermaid and dot need no layout here") from None
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode("utf-8", "replace").strip()
        raise CannotStart(f"dot ended with status {error.returncode}: {said}") from None
    return done.stdout.decode()
