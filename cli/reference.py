"""The generated parts of docs/cli.md: every command's help, the exit codes, the environment variables.

`python -m shoal.cli.reference docs/cli.md` renews them in place; a test compares.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from shoal.cli.app import PROGRAM, app
from shoal.cli.exits import MEANINGS
from shoal.cli.links import LINK_VARIABLE

HELP_COLUMNS = 100
_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renew(text: str) -> str:
    """`text` with every generated block written anew. KeyError for a block of an unknown name."""
    return _BLOCK.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", text)


def help_texts() -> str:
    """The help of the program and of every command."""
    return "\n".join(
        f"### `{path}`\n\n```text\n{text.strip()}\n```\n" for path, _, text in _commands(typer.main.get_command(app))
    )


def exit_codes() -> str:
    """The exit codes and what they mean."""
    rows = [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(("| code | meaning |", "|---:|---|", *rows))


def variables() -> str:
    """The environment variables and the options they stand for."""
    rows = [f"| `{LINK_VARIABLE}` | the argument LINK |"]
    for _, command, _ in _commands(typer.main.get_command(app)):
        for param in command.params:
            if param.envvar:
                rows.append(f"| `{param.envvar}` | `{param.opts[0]}` |")
    return "\n".join(("| variable | instead of |", "|---|---|", *sorted(rows)))


PARTS = {"help": help_texts, "exit-codes": exit_codes, "variables": variables}


def _commands(command: Any, path: str = PROGRAM, parent: Any = None) -> Iterator[tuple[str, Any, str]]:
    """(how to type it, the command, its help) for `command` and all below it."""
    width = {"terminal_width": HELP_COLUMNS, "max_content_width": HELP_COLUMNS}
    context = command.make_context(path.rpartition(" ")[2], [], parent=parent, resilient_parsing=True, **width)
    with context.scope(cleanup=False):
        yield path, command, command.get_help(context)
        for name, below in getattr(command, "commands", {}).items():
            yield from _commands(below, f"{path} {name}", context)


def main() -> None:
    """Renew the file named on the command line."""
    path = Path(sys.argv[1])
    path.write_text(renew(path.read_text()))


if __name__ == "__main__":
    main()
