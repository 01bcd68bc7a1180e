"""The commands and their options as plain values, for what is made from them: reference, man page, completion."""

from collections.abc import Iterator
from typing import Any

import typer

from shoal.cli.app import PROGRAM, make_app
from shoal.values import dataclass


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option or argument. `names`: as typed, empty for an argument.  `value`: its metavar, empty for a flag."""

    names: tuple[str, ...]
    value: str
    help: str
    variable: str

    @property
    def is_option(self) -> bool:
        """Whether it has a name, such as --json."""
        return bool(self.names)


@dataclass(frozen=True, slots=True)
class Command:
    """A command. `path`: how to type it.  `text`: its help, at the width asked for.  `below`: names of its commands."""

    path: str
    summary: str
    description: str
    text: str
    usage: str
    parameters: tuple[Parameter, ...]
    below: tuple[str, ...]

    @property
    def options(self) -> tuple[Parameter, ...]:
        """What has a name."""
        return tuple(each for each in self.parameters if each.is_option)

    @property
    def arguments(self) -> tuple[Parameter, ...]:
        """What has none."""
        return tuple(each for each in self.parameters if not each.is_option)


def commands(columns: int) -> list[Command]:
    """The program itself and every command, each before those below it."""
    return list(_walk(typer.main.get_command(make_app()), PROGRAM, None, columns))


def _walk(command: Any, path: str, parent: Any, columns: int) -> Iterator[Command]:
    width = {"terminal_width": columns, "max_content_width": columns}
    context = command.make_context(path.rpartition(" ")[2], [], parent=parent, resilient_parsing=True, **width)
    below = getattr(command, "commands", {})
    with context.scope(cleanup=False):
        yield Command(
            path=path,
            summary=command.get_short_help_str(),
            description=command.help or "",
            text=command.get_help(context),
            usage=" ".join(command.collect_usage_pieces(context)),
            parameters=tuple(_parameter(param, context) for param in command.get_params(context) if not param.hidden),
            below=tuple(below),
        )
        for name, each in below.items():
            yield from _walk(each, f"{path} {name}", context, columns)


def _parameter(param: Any, context: Any) -> Parameter:
    is_option = param.param_type_name == "option"
    takes_value = not (is_option and (param.is_flag or param.count))
    _, text = param.get_help_record(context)
    return Parameter(
        names=tuple(sorted(param.opts, key=len, reverse=True)) if is_option else (),
        value=(param.metavar or param.name.upper()) if takes_value else "",
        help=text,
        variable=param.envvar or "",
    )
