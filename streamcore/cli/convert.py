"""streamctl convert: a job spec as a graph."""

from __future__ import annotations

import click

from streamcore.cli.failures import CannotStart
from streamcore.cli.options import quiet_debug_option


@click.command(short_help="Print a job spec (version 1) as a graph (version 2).")
@click.argument("job", type=click.Path(dir_okay=False))
@click.option(
    "-o", "--output", "output", type=click.Path(dir_okay=False), metavar="FILE", help="Write it to FILE, which must not be there."
)
@quiet_debug_option
def convert(job: str, output: str | None) -> int:
    """Print the spec JOB, of version 1, as one of version 2: a graph with one node that runs the same.

    From there nodes can be added beside the job. Params stay params; comments of JOB are lost. Nothing is started.

    \b
    Exit status:
      0  fine
      2  JOB is no job spec, or FILE is there already
    """
    from streamcore.spec.conversion import convert as converted

    text = converted(job)
    if output is None:
        click.echo(text, nl=False)
        return 0
    try:
        with open(output, "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CannotStart(f"{output} is there already; nothing was written") from None
    except OSError as error:
        raise CannotStart(f"{output}: cannot be written: {error.strerror}") from None
    click.echo(f"{output}: written")
    return 0
