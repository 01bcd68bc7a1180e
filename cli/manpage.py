"""The man page shoal(1), made from the commands' own help. The format is man(7), which groff and mandoc both read."""

import re
from collections.abc import Iterator

from shoal import __version__
from shoal.cli.exits import MEANINGS
from shoal.cli.links import LINK_VARIABLE
from shoal.cli.tree import Command, Parameter, commands

COLUMNS = 80
_NOT_ASCII = {"…": "\\[u2026]", "–": "\\[en]", "—": "\\[em]", "×": "\\[mu]", "’": "\\[cq]"}


def man_page() -> str:
    """The whole page."""
    program, *below = commands(COLUMNS)
    lines = [
        f'.TH SHOAL 1 "" "Shoal {__version__}" "User Commands"',
        ".SH NAME",
        f"shoal \\- {_text('encrypted file storage carried by volunteers')}",
        ".SH SYNOPSIS",
        f".B {_text(program.path)}",
        _text(program.usage),
        ".SH DESCRIPTION",
        *_paragraphs(program.description),
        ".SH OPTIONS",
        *_parameters(program),
        ".SH COMMANDS",
    ]
    for command in below:
        lines += _command(command)
    lines += [".SH ENVIRONMENT", *_variables([program, *below]), ".SH EXIT STATUS"]
    for code, meaning in MEANINGS.items():
        lines += [".TP", f".B {int(code)}", _text(meaning)]
    lines += [".SH SEE ALSO", _text("The documentation of Shoal: docs/cli.md has the JSON fields of every command.")]
    return "\n".join(lines) + "\n"


def _command(command: Command) -> Iterator[str]:
    yield f".SS {_text(f'{command.path} {command.usage}')}"
    yield from _paragraphs(command.description)
    yield from _parameters(command)


def _parameters(command: Command) -> Iterator[str]:
    for each in (*command.arguments, *command.options):
        yield from (".TP", _head(each), _text(each.help))


def _head(parameter: Parameter) -> str:
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in reversed(parameter.names))
    value = f"\\fI{_text(parameter.value)}\\fR" if parameter.value else ""
    return " ".join(part for part in (names, value) if part)


def _variables(found: list[Command]) -> Iterator[str]:
    yield from (".TP", f".B {LINK_VARIABLE}", _text("Instead of the argument LINK."))
    for option in (option for command in found for option in command.options if option.variable):
        yield from (".TP", f".B {option.variable}", _text(f"Instead of {option.names[0]}."))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        yield from (".PP", _text(" ".join(paragraph.split())))


def _text(text: str) -> str:
    """`text` as roff prints it: a backslash, a hyphen or a leading dot would mean something else."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    for char, name in _NOT_ASCII.items():
        escaped = escaped.replace(char, name)
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
