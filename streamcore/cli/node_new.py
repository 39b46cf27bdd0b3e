"""streamctl node new: write the package of a new node."""

from __future__ import annotations

from pathlib import Path

import click

from streamcore.cli.options import quiet_debug_option


@click.command("new", short_help="Write a package with a node of your own.")
@click.argument("name")
@click.option(
    "--kind", type=click.Choice(("source", "node", "sink")), default="node", show_default=True, help="What it is to be: see docs/nodes.md."
)
@click.option(
    "--dir", "directory", type=click.Path(file_okay=False), metavar="DIR", help="Where to. Default: ./NAME, with dashes in place of dots."
)
@quiet_debug_option
def new(name: str, kind: str, directory: str | None) -> int:
    """Write a package that registers the plugin NAME: a node that works, its tests, and a spec that runs it.

    NAME is what specs will call it, such as acme.blur; the part before the dot tells yours from those of others. The package is
    installed with pip like any other and needs nothing of streamcore's source. No file is ever overwritten: if one that would be written
    is there already, nothing is written.

    \b
    Exit status:
      0  written
      1  DIR cannot be written to
      2  NAME cannot be used, or a file is in the way; nothing was written

    \b
    Examples:
      streamctl node new acme.blur
      streamctl node new acme.thermometer --kind source --dir ~/src/thermometer
    """
    from streamcore.authoring.scaffold import NameRefused, NotWritten, Package, write

    try:
        package = Package.of(name, kind)
    except NameRefused as error:
        raise click.BadParameter(str(error), param_hint="NAME") from None
    folder = Path(directory or package.distribution)
    try:
        written = write(package, folder)
    except FileExistsError as error:
        raise click.UsageError(f"{error.filename} exists already; nothing was written. Choose another --dir") from None
    except OSError as error:
        raise NotWritten(f"{error.filename}: {error.strerror}") from None
    click.echo(f"{name}: wrote into {folder}")
    for path in written:
        click.echo(f"  {path.relative_to(folder)}")
    click.echo("Next:")
    for line in package.next_steps(folder):
        click.echo(f"  {line}")
    return 0
