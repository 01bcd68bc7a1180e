"""`shoal completion`: the scripts, tried in the real shells."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from shoal.cli import completion
from shoal.cli.app import parse
from shoal.cli.commands.completion import SHELLS
from shoal.cli.exits import BadUsageError
from shoal.cli.tree import commands

BASH = """
source "$1"; shift
compopt() { :; }  # there is no completion under way that it could change
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_shoal
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C "$argv[2]"'

CASES = [
    (["shoal", "pub"], {"publish"}),
    (["shoal", "node", ""], {"init", "run", "status", "leave"}),
    (["shoal", "--home", "node", "--json", "chec"], {"check"}),
    (["shoal", "node", "--quiet", "i"], {"init"}),
    (["shoal", "node", "run", "--stop"], {"--stop-on-eof"}),
    (["shoal", "publish", "--js"], {"--json"}),
    (["shoal", "completion", ""], set(SHELLS)),
    (["shoal", "publish", "holi"], {"holiday.mkv"}),
    (["shoal", "fetch", "LINK", "-o", "holi"], {"holiday.mkv"}),
    (["shoal", "publish", "a file", "--exclude", "x", "holi"], {"holiday.mkv"}),
    (["shoal", "publish", "--symlinks", "s"], {"store", "skip"}),
    (["shoal", "publish", "--needed", ""], set()),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a file to be named, and the scripts beside it."""
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "holiday.mkv").touch()
    for shell, script in completion.SCRIPTS.items():
        (tmp_path / shell).write_text(script())
    return tmp_path


def lines_of(command: list[str], folder: Path) -> set[str]:
    done = subprocess.run(command, cwd=folder / "work", capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr == ""
    return {line for line in done.stdout.splitlines() if line}


def test_there_is_a_script_for_every_shell() -> None:
    assert tuple(completion.SCRIPTS) == SHELLS


@pytest.mark.parametrize(("words", "found"), CASES)
def test_bash(words: list[str], found: set[str], folder: Path) -> None:
    assert lines_of(["bash", "--norc", "-c", BASH, "bash", str(folder / "bash"), *words], folder) == found


@pytest.mark.parametrize(("words", "found"), CASES)
def test_fish(words: list[str], found: set[str], folder: Path) -> None:
    fish = shutil.which("fish")
    if fish is None:  # nothing to try on this machine: the words are the same in all scripts
        assert all(word in completion.fish() for word in found if word != "holiday.mkv")
        return
    command = [fish, "--no-config", "-c", FISH, str(folder / "fish"), " ".join(words)]
    assert {line.partition("\t")[0] for line in lines_of(command, folder)} == found


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_is_well_formed(shell: str, folder: Path) -> None:
    if shutil.which(shell) is not None:
        assert lines_of([shell, "-n", str(folder / shell)], folder) == set()


@pytest.mark.parametrize("shell", SHELLS)
def test_each_script_knows_every_command_and_option(shell: str) -> None:
    script = completion.SCRIPTS[shell]()
    for command in commands(80):
        assert command.path in script
        for option in command.options:
            bare = option.names[0].removeprefix("--")
            assert (f"-l {bare}" if shell == "fish" else f"--{bare}") in script


def test_the_command_prints_the_script(inside: Any) -> None:
    assert inside("completion", "bash").stdout == completion.bash()
    assert json.loads(inside("completion", "zsh", "--json").stdout)["script"] == completion.zsh()
    with pytest.raises(BadUsageError, match="no completion for 'tcsh', only for bash, zsh, fish"):
        parse(["completion", "tcsh"])
