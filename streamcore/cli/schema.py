"""streamctl schema: the rules of a spec as JSON Schema, for editors."""

from __future__ import annotations

import json

import click

from streamcore.cli.options import quiet_debug_option


@click.command(short_help="Print a JSON Schema of specs, for editors.")
@click.option("--allow", metavar="PACKAGE", multiple=True, help="Allow classes of this package among PLUGIN. Repeatable.")
@click.argument("plugins", nargs=-1, metavar="[PLUGIN]...")
@quiet_debug_option
def schema(allow: tuple[str, ...], plugins: tuple[str, ...]) -> int:
    """Print the JSON Schema (2020-12) of a spec, graph or job, with the config of every registered plugin, or of each PLUGIN alone.

    An editor that speaks YAML completes and checks with it while one writes. It is made from the rules that `streamctl validate` checks,
    and says less: ids, ports, and what belongs together are checked by `validate` alone. In Visual Studio Code with the YAML extension,
    the first line of a spec names it; `!secret` has to be listed in the setting yaml.customTags as "!secret scalar".

    \b
      # yaml-language-server: $schema=spec.schema.json

    \b
    Exit status:
      0  fine; a plugin that does not load is left out and said on standard error
      2  the command line is wrong

    \b
    Examples:
      streamctl schema > spec.schema.json
      streamctl schema video.file my_nodes.vision:Blur --allow my_nodes
    """
    from streamcore.cli.node import manifests_of
    from streamcore.manifest import Manifest
    from streamcore.plugins.naming import names as registered
    from streamcore.spec.json_schema import spec_schema

    configs = {}
    for name, found in manifests_of(list(plugins) or list(registered()), allow).items():
        if isinstance(found, Manifest):
            configs[name] = found.config
        else:
            click.echo(f"left out: {found}", err=True)
    click.echo(json.dumps(spec_schema(configs), indent=1, sort_keys=True))
    return 0
