"""Where a link may come from, and that nothing but a link passes."""

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from shoal.cli.exits import BadUsageError, Code, CommandError
from shoal.cli.links import take_link
from shoal.erasure.link import Link, LinkKind
from shoal.erasure.manifest import FileId

PRIVATE = Link(FileId(bytes(range(32))), LinkKind.PRIVATE, bytes(range(32, 64)))
PUBLIC = Link(FileId(bytes(range(32))), LinkKind.PUBLIC)


class TerminalBytes(io.BytesIO):
    def isatty(self) -> bool:
        return True


def nothing() -> None:
    return None


def from_bytes(content: bytes) -> Callable[[], BinaryIO]:
    return lambda: io.BytesIO(content)


def take(
    argument: str | None = None,
    link_file: str | None = None,
    *,
    needs_key: bool = True,
    environment: dict[str, str] | None = None,
    stdin: Callable[[], BinaryIO | None] = nothing,
) -> Link:
    return take_link(argument, link_file, needs_key=needs_key, environment=environment or {}, stdin=stdin)


def test_every_way_in(tmp_path: Path) -> None:
    text = str(PRIVATE)
    (tmp_path / "link").write_text(f"\n  {text} \n")
    assert take(text) == PRIVATE
    assert take(f"  {text}\n") == PRIVATE
    assert take(link_file=str(tmp_path / "link")) == PRIVATE
    assert take(environment={"SHOAL_LINK": text}) == PRIVATE
    assert take("-", stdin=from_bytes(f"{text}\r\n".encode())) == PRIVATE
    assert take(stdin=from_bytes(text.encode())) == PRIVATE


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1", "utf-16"])
def test_a_link_pasted_from_a_web_page_is_taken_by_every_way(tmp_path: Path, encoding: str) -> None:
    text = str(PRIVATE)
    wrapped = f"\xa0«{text[:70]}\n{text[70:]}».\xa0".replace("#", "%23")
    (tmp_path / "link").write_bytes(wrapped.encode(encoding))
    assert take(wrapped) == PRIVATE
    assert take(link_file=str(tmp_path / "link")) == PRIVATE
    assert take(environment={"SHOAL_LINK": wrapped}) == PRIVATE
    assert take("-", stdin=from_bytes(wrapped.encode(encoding))) == PRIVATE
    argument = wrapped.replace("\n", "").encode("latin-1").decode("utf-8", "surrogateescape")
    assert take(argument) == PRIVATE, "as Python gives an argument in another encoding than the terminal's"


def test_what_comes_first(tmp_path: Path) -> None:
    (tmp_path / "link").write_text(str(PUBLIC))
    environment = {"SHOAL_LINK": str(PRIVATE)}
    assert take(str(PUBLIC), environment=environment) == PUBLIC
    assert take(link_file=str(tmp_path / "link"), environment=environment) == PUBLIC
    assert take("-", environment=environment, stdin=from_bytes(str(PUBLIC).encode())) == PUBLIC
    with pytest.raises(BadUsageError, match="not both"):
        take(str(PUBLIC), str(tmp_path / "link"))


@pytest.mark.parametrize("stdin", [nothing, lambda: TerminalBytes(b"")])
def test_no_link_at_all(stdin: Callable[[], BinaryIO | None]) -> None:
    with pytest.raises(BadUsageError, match="No link was given"):
        take(stdin=stdin)


def test_an_address_of_the_web_is_no_link() -> None:
    with pytest.raises(BadUsageError, match=r"^That is not a Shoal link \(they start with shoal:\)\.$"):
        take("https://example.org/file")


@pytest.mark.parametrize("content", [b"", b" \n\t "])
def test_an_empty_input_is_not_a_link(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(BadUsageError, match="Standard input held no link"):
        take("-", stdin=from_bytes(content))
    (tmp_path / "link").write_bytes(content)
    with pytest.raises(BadUsageError, match=r"The link file .* held no link"):
        take(link_file=str(tmp_path / "link"))


@pytest.mark.parametrize("name", ["missing", "", "a\0b"])
def test_a_link_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="Cannot read the link file") as caught:
        take(link_file=f"{tmp_path}/{name}")
    assert caught.value.code == Code.FAILED


def test_a_key_is_needed_to_read_a_private_file_and_only_then() -> None:
    with pytest.raises(BadUsageError, match="This link has no key"):
        take(PRIVATE.hash)
    assert take(PRIVATE.hash, needs_key=False).key is None
    assert take(PUBLIC.hash) == PUBLIC


@pytest.mark.parametrize("hostile", [b"\xff\xfe" * 100, b"shoal:" + b"a" * 100_000, b"\0", b"#", b"shoal:#"])
def test_hostile_bytes(hostile: bytes) -> None:
    with pytest.raises(BadUsageError, match=r"Malformed link|not a Shoal link"):
        take("-", stdin=from_bytes(hostile))


def test_one_changed_character_anywhere_is_refused_and_not_repeated() -> None:
    text = str(PRIVATE)
    for position in range(len(text)):
        for other in ("a", "b", "7", "#", "A", " ", "é", "\0"):
            changed = text[:position] + other + text[position + 1 :]
            if changed == text or changed.strip() == text:
                continue
            with pytest.raises(BadUsageError, match=r"Malformed link|not a Shoal link") as caught:
                take(changed)
            assert changed[10:40] not in str(caught.value)


def test_a_path_is_taken_only_by_commands_that_look_into_folders() -> None:
    link = replace(PRIVATE, path=b"holiday/img 01.jpg")
    assert take_link(str(link), None, needs_key=True, takes_path=True) == link
    with pytest.raises(BadUsageError, match="has a path"):
        take(str(link))
    assert take(f"{PRIVATE}/") == PRIVATE
    with pytest.raises(BadUsageError, match="Malformed link: its path has a blank"):
        take_link(f"{PRIVATE}/img 01.jpg", None, needs_key=True, takes_path=True)


def test_truncated_links_are_refused() -> None:
    text = str(PRIVATE)
    for length in range(1, len(text)):
        if text[:length] != PRIVATE.hash:
            with pytest.raises(BadUsageError):
                take(text[:length])
