"""Having the desktop open `shoal:` links with `shoal web`: a desktop entry, and a line in the user's list of defaults.

These are the files of freedesktop.org, which Linux desktops read. No other program is needed to write them.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from shoal.cli.context import Globals
from shoal.cli.exits import CommandError

ENTRY = "shoal-links.desktop"
SCHEME_TYPE = "x-scheme-handler/shoal"
_DEFAULTS = "[Default Applications]"
_RESERVED = frozenset(" \t\n\"'\\><~|&;$*?#()`")


def register(settings: Globals) -> Path:
    """Write both files; where the desktop entry is.

    The command that is written has the home and the network of this one.

    :raises CommandError: a folder cannot be written.
    """
    data = _folder("XDG_DATA_HOME", ".local/share") / "applications"
    config = _folder("XDG_CONFIG_HOME", ".config")
    try:
        data.mkdir(parents=True, exist_ok=True)
        config.mkdir(parents=True, exist_ok=True)
        entry, defaults = data / ENTRY, config / "mimeapps.list"
        entry.write_text(desktop_entry([*_program(), *_options(settings), "web"]), "utf-8")
        before = defaults.read_text("utf-8", "surrogateescape") if defaults.exists() else ""
        new = defaults.with_name(f"mimeapps.list.{os.getpid()}.tmp")
        new.write_text(with_default(before), "utf-8", "surrogateescape")
        os.replace(new, defaults)
    except OSError as error:
        raise CommandError(f"Cannot write {error.filename}: {error.strerror}.") from error
    return entry


def desktop_entry(command: Sequence[str]) -> str:
    """A desktop entry that runs a command with the link that was clicked."""
    words = " ".join(_quoted(word) for word in command)
    return (
        "[Desktop Entry]\nType=Application\nName=Shoal\nComment=Open a shoal: link\n"
        f"Exec={words} %u\nTerminal=false\nNoDisplay=true\nMimeType={SCHEME_TYPE};\n"
    )


def with_default(text: str) -> str:
    """A list of default applications with ours for `shoal:` links, and everything else as it was."""
    ours = f"{SCHEME_TYPE}={ENTRY}"
    lines: list[str] = []
    section = ""
    is_there = False
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip()
        elif section == _DEFAULTS and line.partition("=")[0].strip() == SCHEME_TYPE:
            continue
        lines.append(line)
        if line.startswith("[") and section == _DEFAULTS and not is_there:
            lines.append(ours)
            is_there = True
    if not is_there:
        lines += [_DEFAULTS, ours]
    return "\n".join(lines) + "\n"


def _quoted(word: str) -> str:
    """A word as the value of Exec has it: quoted twice, for the entry and for the command; a percent sign doubled."""
    if not _RESERVED & set(word) and word:
        return word.replace("%", "%%")
    inner = "".join(f"\\{char}" if char in '"`$\\' else char for char in word)
    return f'"{inner}"'.replace("\\", "\\\\").replace("\n", "\\n").replace("\t", "\\t").replace("%", "%%")


def _program() -> list[str]:
    found = shutil.which("shoal")
    return [found] if found else [sys.executable, "-m", "shoal.cli"]


def _options(settings: Globals) -> list[str]:
    options: list[str] = []
    if settings.home is not None:
        options += ["--home", os.path.abspath(settings.home)]
    if settings.network is not None:
        options += ["--network", os.path.abspath(settings.network)]
    for address in settings.bootstrap:
        options += ["--bootstrap", address]
    return options


def _folder(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    try:
        return Path(value) if value.startswith("/") else Path.home() / fallback
    except RuntimeError as error:
        raise CommandError("This user has no home folder.") from error
