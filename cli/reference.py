"""What is generated from the commands: parts of docs/cli.md, and the man page.

`python -m shoal.cli.reference docs/cli.md` renews the page in place, and a test compares.
`python -m shoal.cli.reference --man shoal.1` writes the man page (`make man`).
"""

import re
import sys
from pathlib import Path

from shoal.cli.exits import MEANINGS
from shoal.cli.links import LINK_VARIABLE
from shoal.cli.manpage import man_page
from shoal.cli.tree import commands

HELP_COLUMNS = 100
_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def renew(text: str) -> str:
    """`text` with every generated block written anew. Raises KeyError for a block of an unknown name."""
    return _BLOCK.sub(lambda match: f"{match[1]}{PARTS[match[2]]()}\n{match[3]}", text)


def help_texts() -> str:
    """The help of the program and of every command."""
    return "\n".join(f"### `{each.path}`\n\n```text\n{each.text.strip()}\n```\n" for each in commands(HELP_COLUMNS))


def exit_codes() -> str:
    """The exit codes and what they mean."""
    rows = [f"| {int(code)} | {meaning} |" for code, meaning in MEANINGS.items()]
    return "\n".join(("| code | meaning |", "|---:|---|", *rows))


def variables() -> str:
    """The environment variables and the options they stand for."""
    found = [option for command in commands(HELP_COLUMNS) for option in command.options if option.variable]
    rows = [f"| `{LINK_VARIABLE}` | the argument LINK |"]
    rows += [f"| `{option.variable}` | `{option.names[0]}` |" for option in found]
    return "\n".join(("| variable | instead of |", "|---|---|", *sorted(rows)))


PARTS = {"help": help_texts, "exit-codes": exit_codes, "variables": variables}


def main(arguments: list[str]) -> None:
    """Renew the page named on the command line; after --man, write the man page there."""
    if arguments[0] == "--man":
        Path(arguments[1]).write_text(man_page())
        return
    path = Path(arguments[0])
    path.write_text(renew(path.read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
