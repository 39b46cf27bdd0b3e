"""streamctl completion: the script by which a shell completes streamctl's command lines."""

from __future__ import annotations

import click

from streamcore.cli.options import quiet_debug_option

_VARIABLE = "_STREAMCTL_COMPLETE"  # click looks into it; its value says which shell asks for what
_INSTALL = {
    "bash": (
        "streamctl completion bash > ~/.local/share/bash-completion/completions/streamctl   # with the package bash-completion",
        "source <(streamctl completion bash)   # or: this shell; in ~/.bashrc: every one",
    ),
    "zsh": (
        "streamctl completion zsh > ~/.zfunc/_streamctl     # with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc",
        "source <(streamctl completion zsh)                 # or: this shell only",
    ),
    "fish": (
        "streamctl completion fish > ~/.config/fish/completions/streamctl.fish",
        "streamctl completion fish | source                 # or: this shell only",
    ),
}


@click.command(short_help="Print the completion script of a shell.")
@click.argument("shell", type=click.Choice(tuple(_INSTALL)))
@quiet_debug_option
def completion(shell: str) -> int:
    """Print the script that lets SHELL complete the words of streamctl: commands and options, files, the names of live runs and of their
    nodes, of plugins, incidents and dead letters.

    The script calls streamctl at every Tab, for a tenth of a second. How to install it stands in its first lines. bash has to be 4.4 or
    newer.

    \b
    Exit status:
      0  fine
      2  the command line is wrong

    \b
    Examples:
      source <(streamctl completion bash)
      streamctl completion zsh > ~/.zfunc/_streamctl
      streamctl completion fish > ~/.config/fish/completions/streamctl.fish
    """
    from click.shell_completion import get_completion_class

    from streamcore.cli.root import streamctl

    kind = get_completion_class(shell)
    assert kind is not None  # the choice has click's own shells only
    head = "\n".join(f"#   {line}" for line in _INSTALL[shell])
    # #compdef has to be the first line of a zsh function file.
    script = kind(streamctl, {}, "streamctl", _VARIABLE).source().strip()
    first, newline, rest = script.partition("\n") if script.startswith("#compdef") else ("", "", script)
    click.echo(f"{first}{newline}# Completion of streamctl for {shell}. To install it:\n{head}\n\n{rest}")
    return 0
