"""docs/cli.md says what the code does."""

import re
from pathlib import Path

import pytest

from shoal.cli import reference
from shoal.cli.commands import cat, check, delete, fetch, info, ls, publish, renew, repair, republish
from shoal.cli.exits import MEANINGS
from shoal.cli.manpage import man_page
from shoal.cli.tree import commands
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId
from shoal.node import (
    VERSION,
    Address,
    Checked,
    Deleted,
    Fetched,
    FileInfo,
    Holder,
    KeptFile,
    NodeId,
    Published,
    PublishedFile,
    Renewed,
    Repaired,
    Republished,
    Width,
)

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
LINK = Link(FileId(bytes(32)), LinkKind.PRIVATE, bytes(32))


def documented(command: str) -> set[str]:
    """The words in backticks of a command's line in the table of summaries."""
    table = PAGE.read_text().partition("## Summaries in JSON")[2].partition("## Commands")[0]
    line = next(line for line in table.splitlines() if line.startswith(f"| `{command}` |"))
    return set(re.findall(r"`([a-z_]+)`", line)) - set(re.findall(r"[a-z]+", command))


def test_the_generated_parts_are_up_to_date() -> None:
    text = PAGE.read_text()
    assert reference.renew(text) == text, "run: python -m shoal.cli.reference docs/cli.md"


def test_the_man_page_has_every_command_option_and_exit_code() -> None:
    page = man_page()
    plain = re.sub(r"\\f[BIR]", "", page).replace("\\-", "-")
    for command in commands(80):
        section = plain if command.path == "shoal" else plain.partition(f".SS {command.path} ")[2].partition("\n.S")[0]
        assert section, command.path
        for option in command.options:
            assert all(name in section for name in option.names), (command.path, option.names)
    for code, meaning in MEANINGS.items():
        assert f".B {int(code)}\n{meaning}" in plain
    assert "SHOAL_LINK" in plain


def test_the_man_page_is_plain_roff() -> None:
    """ASCII, no line that is a request by accident, every hyphen one that can be copied into a terminal."""
    for line in man_page().splitlines():
        assert line.isascii()
        assert line.strip()
        assert line.split()[0] in (".TH", ".SH", ".SS", ".PP", ".TP", ".B") or not line.startswith((".", "'"))
        assert not re.search(r"(?<!\\)-", line)


def test_an_unknown_part_is_an_error() -> None:
    with pytest.raises(KeyError):
        reference.renew("<!-- generated: poems -->\n<!-- end -->")


def test_summaries() -> None:
    published = Published(LINK, 1, 1, 3, 3, 3, 3, 0.1, 3, 0, 1_800_000_000.0)
    assert publish.summary_fields(published).keys() == documented("publish")
    fetched = Fetched(Path("x"), "x", 1, 0.1, 1, 0)
    assert fetch.summary_fields(fetched).keys() == documented("fetch")
    written = cat.WrittenRange(None, "x", 3, 1, 1, 0.1, 1)
    assert cat.summary_fields(written).keys() == documented("cat")
    holder = Holder(0, NodeId(bytes(32)), Address("127.0.0.1", 1), 0.0)
    fields = info.summary_fields(LINK, FileInfo(LINK.id, False, 1, 3, 1, None, None, None, (holder,)))
    assert fields.keys() | {"share", "node_id", "address", "lease_end"} == documented("info")
    entry = PublishedFile(LINK, None, 1, 1, 3, 3, 0.0, 0.0)
    kept = KeptFile(Link(LINK.id), 0.0, 0.0, 0.0)
    assert ls.file_fields(entry).keys() | ls.kept_fields(kept).keys() | {"files", "kept", "entries"} == documented("ls")


def test_summaries_of_care() -> None:
    ways = dict.fromkeys(("ok", "wrong", "missing", "offline", "stalled", "busy"), 0)
    checked = Checked(LINK.id, 1, 3, 3, 3, 1, True, 2, 0.0, ways, 0, False, False, 0.1)
    assert check.summary_fields(LINK, checked).keys() | ways.keys() == documented("check")
    repaired = Repaired(LINK.id, 1, 3, (), 3, 3, 3, 0, 0, 0.0, True, {}, 0.1)
    assert repair.summary_fields(LINK, repaired).keys() == documented("repair")
    renewed = Renewed(LINK.id, 1, 3, 3, 3, {}, 0.0)
    assert renew.summary_fields(LINK, renewed).keys() == documented("renew")
    kept = renew.summary_fields(LINK, renewed) | check.width_fields(None)
    assert kept.keys() == documented("keep")
    published = Published(LINK, 1, 1, 3, 3, 3, 3, 0.1, 3, 0, 1_800_000_000.0)
    again = Republished(published, LINK, Width(1, 3, 1, 3, 0), is_kept=False)
    assert republish.summary_fields(again).keys() - documented("publish") == documented("republish")
    assert delete.summary_fields(LINK.hash, Deleted(LINK.id, 3, {})).keys() == documented("delete")


def test_one_version() -> None:
    from importlib.metadata import version

    assert version("shoal") == VERSION
