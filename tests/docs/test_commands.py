"""The commands and options that pages for people name are those of the command line."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from shoal.cli.tree import Command, commands

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("tutorial", "volunteer", "your-data", "care"))]
COMMANDS = {each.path: each for each in commands(100)}


def typed(page: str) -> Iterator[str]:
    """What the page says to type: in code spans, in indented lines, and behind the prompts of consoles."""
    yield from re.findall(r"`(shoal [^`]+)`", page)
    yield from re.findall(r"(?m)^(?:    |[$>] +)(?:.*(?:/bin/|\| ))?(shoal .*)$", page)


def unknown(text: str) -> list[str]:
    """The words of a command line that are neither commands nor options of it."""
    wrong, command = [], COMMANDS["shoal"]
    alone = re.split(r" [|>&;]|; ", text)[0]  # without what the shell does with it
    words = iter(shlex.split(alone, comments=True)[1:])
    for word in words:
        if word.startswith("-") and word != "-":
            option = option_of(command, word)
            if option is None:
                wrong.append(f"{command.path} {word}")
            elif option:
                next(words, None)
        elif word in command.below:
            command = COMMANDS[f"{command.path} {word}"]
        elif command.below and word.islower() and word.isalpha():
            wrong.append(f"{command.path} {word}")
    return wrong


def option_of(command: Command, word: str) -> str | None:
    """What follows an option, empty for a flag. None where neither the command nor the program has the option."""
    for each in (*command.options, *COMMANDS["shoal"].options):
        if word in each.names:
            return each.value
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_pages_say_to_type_exists(page: Path) -> None:
    lines = list(typed(page.read_text()))
    assert lines
    assert [each for line in lines for each in unknown(line)] == []


def test_a_wrong_word_is_found() -> None:
    assert unknown("shoal --home DIR node init --listen 0.0.0.0:4751") == []
    assert unknown("shoal publich FILE") == ["shoal publich"]
    assert unknown("shoal publish --need 3 FILE") == ["shoal publish --need"]
