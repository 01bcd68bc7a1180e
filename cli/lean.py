"""typer commands that start fast, take the options of `shoal` itself, and fit a narrow terminal.

typer converts every parameter, text included, with pydantic, whose import alone takes 80 ms and 12 MiB: as
much as all the rest of our start. Our parameters are flags, texts and lists of texts, which need no
conversion library; numbers, sizes and durations are read by `shoal.cli.units`, with better words.
"""

import copy
import shutil
from functools import partial
from typing import Any

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup

from shoal.cli.context import FALSE_WORDS, TRUE_WORDS, Globals

HELP_COLUMNS = 100  # longer lines are hard to read
LEAST_HELP_COLUMNS = 30  # narrower than that nothing can be laid out
NARROW_COLUMNS = 60  # below that the column of options is kept small, and longer options get a line of their own
NARROW_OPTION_COLUMNS = 10
SHORT_HELP_CHARS = 200  # more than the first sentence of any command
LATER = "later_"  # before the name of an option of `shoal` that may stand after the command


class _Converter:
    """What typer asks to turn the text of one parameter into its value."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """Texts stay texts; a flag may come as text from its environment variable."""
        is_many = param.multiple or param.nargs == -1
        if value is None:
            return () if is_many else None
        if is_many:
            return list(value)
        if param.type_descriptor.annotation is bool and isinstance(value, str):
            return _flag(value, param, ctx)
        return value


def _flag(value: str, param: Any, ctx: Any) -> bool:
    word = value.strip().lower()
    if word in TRUE_WORDS or word in FALSE_WORDS:
        return word in TRUE_WORDS
    raise typer.BadParameter(f"{value!r} is not one of 0 and 1.", ctx=ctx, param=param)


_CONVERTER = _Converter()


def help_columns() -> int:
    """How wide help may be on this terminal. typer by itself takes 50 columns where there are fewer."""
    return max(LEAST_HELP_COLUMNS, min(shutil.get_terminal_size().columns, HELP_COLUMNS) - 2)


def _lightened(params: list[Any]) -> list[Any]:
    """`params` with our converter where typer keeps the one it would build, the help option's included.

    The help names an argument by its metavar alone: its Python type tells nobody anything.
    """
    for param in params:
        param._runtime_param = _CONVERTER
        if isinstance(param, TyperArgument):
            param.display_type_rich = _no_type  # type: ignore[method-assign]
    return params


def _no_type(ctx: Any) -> None:
    """What is said of an argument's type: nothing."""


def _later_options(context: Any) -> list[Any]:
    """The options of `shoal` itself, to be taken after a command too. The help shows them once, in its own place."""
    root = context.find_root()
    return [] if root is context else [_later(param) for param in root.command.params]


def _later(param: Any) -> Any:
    """A copy of one option: an environment variable or a default is the business of the original."""
    later = copy.copy(param)
    later.name, later.hidden, later.envvar, later.default = LATER + param.name, True, None, None
    return later


def _take_later_options(context: Any) -> None:
    """Move what was given after the command from the command's own values to the options of `shoal`."""
    names = [name for name in context.params if name.startswith(LATER)]
    typed = {name.removeprefix(LATER): context.params.pop(name) for name in names}
    found = context.find_object(Globals)
    if found is not None and any(typed.values()):
        context.obj = found.with_later(typed)


class _Lean:
    """What commands and groups have in common. `super()` is typer's class, which stands behind this one."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, made light, and the options of `shoal` itself."""
        found = super().get_params(ctx)  # type: ignore[misc]
        return _lightened([*found, *_later_options(ctx)])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse, and hand over what belongs to `shoal` itself."""
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]
        _take_later_options(ctx)
        return rest

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help, as wide as the terminal."""
        if formatter.width < NARROW_COLUMNS:
            formatter.write_dl = partial(formatter.write_dl, col_max=NARROW_OPTION_COLUMNS)
        super().format_help(ctx, formatter)  # type: ignore[misc]

    def get_short_help_str(self, _limit: int = 0) -> str:
        """The first sentence, whole: it is wrapped rather than cut."""
        return str(super().get_short_help_str(SHORT_HELP_CHARS))  # type: ignore[misc]


class LeanCommand(_Lean, TyperCommand):
    """One command."""


class LeanGroup(_Lean, TyperGroup):
    """A command with commands below it."""
