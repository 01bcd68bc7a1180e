"""What cli/lean.py and cli/tree.py take for granted of typer, which does not promise all of it."""

import inspect
from typing import Any

import pytest
import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

from shoal.cli.app import COMMANDS, make_app, parse
from shoal.cli.exits import BadUsageError
from shoal.cli.lean import LATER, LeanCommand, LeanGroup
from shoal.cli.tree import commands


def params_of(command: Any) -> list[Any]:
    context = command.make_context("shoal", ["ls"], resilient_parsing=True)
    return list(command.get_params(context))


def test_typer_asks_the_converter_that_was_put_in_its_place() -> None:
    """Otherwise typer would build its own, which loads pydantic: 80 ms at each start."""
    assert "_runtime_param" in inspect.getsource(TyperOption.get_runtime_param)
    for param in params_of(typer.main.get_command(make_app())):
        assert param.get_runtime_param() is param._runtime_param
        assert type(param._runtime_param).__module__ == "shoal.cli.lean"


def test_a_parameter_has_the_fields_that_are_copied_and_read() -> None:
    for param in params_of(typer.main.get_command(make_app())):
        assert isinstance(param, TyperOption | TyperArgument)
        for name in ("name", "hidden", "envvar", "default", "opts", "metavar", "multiple", "nargs", "help"):
            assert hasattr(param, name), name
    assert callable(TyperArgument.display_type_rich)


def test_the_classes_have_the_methods_that_are_extended() -> None:
    for lean, own in ((LeanCommand, TyperCommand), (LeanGroup, TyperGroup)):
        for name in ("get_params", "parse_args", "format_help", "get_short_help_str"):
            assert getattr(lean, name) is not getattr(own, name)
    assert (
        "col_max"
        in inspect.signature(
            typer.main.get_command(make_app())
            .make_context("x", ["ls"], resilient_parsing=True)
            .make_formatter()
            .write_dl
        ).parameters
    )


def test_every_option_of_the_program_may_stand_after_every_command() -> None:
    program = typer.main.get_command(make_app())
    names = {param.name for param in program.params}
    context: Any = program.make_context("shoal", ["ls"], resilient_parsing=True)
    for name, command in program.commands.items():  # type: ignore[attr-defined]
        below = command.make_context(name, [], parent=context, resilient_parsing=True)
        later = {param.name.removeprefix(LATER) for param in command.get_params(below) if param.hidden}
        assert later == names, name
        assert not {each for param in command.params for each in param.opts} & {
            each for param in program.params for each in param.opts
        }, "an option of a command must not have the name of one of the program"


def test_a_group_without_a_command_reaches_its_callback() -> None:
    for arguments in ([], ["node"], ["--quiet"]):
        assert not isinstance(parse(arguments), int)


def test_the_tree_has_every_command() -> None:
    paths = [command.path for command in commands(80)]
    assert paths[0] == "shoal"
    assert {"shoal publish", "shoal node", "shoal node leave"} < set(paths)


def test_a_command_loaded_alone_is_as_among_all(capsys: pytest.CaptureFixture[str]) -> None:
    """The start of a command loads that command alone; its help says the same as if all were there."""
    for name in COMMANDS:
        alone, among = (typer.main.get_command(make_app(names)) for names in ((name,), COMMANDS))
        for program in (alone, among):
            program.main([name, "--help"], prog_name="shoal", standalone_mode=False)
        out = capsys.readouterr().out
        assert out[: len(out) // 2] == out[len(out) // 2 :], name


def test_what_is_no_command_is_looked_for_among_all(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["--json", "--help", "publish"], ["--home", "publish", "--help"]):
        assert parse(arguments) == 0
        out = capsys.readouterr().out
        assert all(f"\n  {name} " in out for name in COMMANDS)
    with pytest.raises(BadUsageError, match="publish"):
        parse(["publsh"])
    assert not isinstance(parse(["--home", "publish", "--network=x", "-v", "ls"]), int)
