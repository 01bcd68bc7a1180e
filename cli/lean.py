"""typer commands that start fast.

typer converts every parameter, text included, with pydantic, whose import alone takes 80 ms and 12 MiB: as
much as all the rest of our start. Our parameters are flags, texts and lists of texts, which need no
conversion library; numbers, sizes and durations are read by `shoal.cli.units`, with better words.
"""

from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from shoal.cli.context import FALSE_WORDS, TRUE_WORDS


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


def _lightened(params: list[Any]) -> list[Any]:
    """`params` with our converter where typer keeps the one it would build, the help option's included."""
    for param in params:
        param._runtime_param = _CONVERTER
    return params


class LeanCommand(TyperCommand):
    """One command."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, made light."""
        return _lightened(super().get_params(ctx))


class LeanGroup(TyperGroup):
    """A command with commands below it."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, made light."""
        return _lightened(super().get_params(ctx))
