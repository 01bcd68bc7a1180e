"""`shoal completion`: the script with which a shell completes this command line."""

from typing import Annotated

import typer

from shoal.cli.context import Globals, Job, globals_of
from shoal.cli.exits import BadUsageError, Code

SHELLS = ("bash", "zsh", "fish")


def completion(
    context: typer.Context,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="The shell to print it for.")],
) -> Job:
    """Print the script that completes `shoal` commands in your shell.

    For bash, put this line into ~/.bashrc: source <(shoal completion bash)

    For zsh, put this line into ~/.zshrc, after compinit: source <(shoal completion zsh)

    For fish, run: shoal completion fish > ~/.config/fish/completions/shoal.fish
    """
    settings = globals_of(context)
    if shell not in SHELLS:
        raise BadUsageError(f"There is no completion for {shell!r}, only for {', '.join(SHELLS)}.")
    return Job(settings.output, lambda: _completion(settings, shell))


def _completion(settings: Globals, shell: str) -> int:
    from shoal.cli.completion import SCRIPTS

    script = SCRIPTS[shell]()
    settings.output.result(script.rstrip("\n"))
    settings.output.summary(shell=shell, script=script)
    return Code.OK
