"""A link is refused when any character is wrong, and accepted with white space around it."""

import base64
import string
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shoal.erasure import FileId, Link, LinkKind, MalformedLink, parse_link
from shoal.erasure.hashing import labelled

FILE_ID, KEY = FileId(bytes(range(32))), bytes(range(100, 132))
PRIVATE, PUBLIC = Link(FILE_ID, LinkKind.PRIVATE, KEY), Link(FILE_ID, LinkKind.PUBLIC)
TEXTS = {"private": str(PRIVATE), "hash": PRIVATE.hash, "public": str(PUBLIC), "bare": PUBLIC.hash[6:]}
NAMES = (
    st.binary(min_size=1, max_size=255)
    .map(lambda name: name.replace(b"/", b"-").replace(b"\0", b"_"))
    .filter(lambda name: name not in (b".", b".."))
)
PATHS = st.lists(NAMES, min_size=1, max_size=8).map(b"/".join)
REPLACEMENTS = string.printable + "\0é\u200b\u2028\ud800ſＡ"


def part(first: int, value: bytes, label: str) -> str:
    body = bytes([first]) + value
    return base64.b32encode(body + labelled(label)(body)[:7]).decode().lower()


@settings(max_examples=60)
@given(
    st.binary(min_size=32, max_size=32),
    st.sampled_from(LinkKind),
    st.none() | st.binary(min_size=32, max_size=32),
)
def test_round_trip(file_id: bytes, kind: LinkKind, key: bytes | None) -> None:
    link = Link(FileId(file_id), kind, key if kind is LinkKind.PRIVATE else None)
    assert parse_link(str(link)) == link
    assert parse_link(f"\t {link}\r\n") == link
    assert parse_link(link.hash) == Link(FileId(file_id), kind)
    assert parse_link(str(link).removeprefix("shoal:")) == link


def pasted(link: str) -> dict[str, str]:
    """A link as it comes from mails, web pages, chats and documents."""
    half = len(link) // 2
    return {
        "no-break space": f"\xa0{link}\xa0",
        "spaces within": " ".join(link),
        "odd spaces": f"\u2003{link[:half]}\u2009\u200b{link[half:]}\u3000\ufeff",
        "line breaks": f"{link[:40]}\n  {link[40:80]}\r\n\t{link[80:]}\u2028",
        "soft hyphens": "\xad".join((link[:30], link[30:60], link[60:])),
        "quotes": f'"{link}"',
        "single quotes": f"'{link}'",
        "curly quotes": f"“{link}”",
        "German quotes": f"„{link}“",
        "French quotes": f"« {link} »",
        "code": f"`{link}`",
        "angle brackets": f"<{link}>",
        "quoted mail": f"> {link[:60]}\n> {link[60:]}",
        "parentheses": f"({link}).",
        "full stop": f"{link}.",
        "comma": f"{link},",
        "question": f"«{link}»?",
        "bold": f"**{link}**",
        "in all": f" (see “<{link[:50]}\n{link[50:]}>”).\r\n".replace("see ", ""),
        "%23": link.replace("#", "%23"),
    }


@pytest.mark.parametrize("how", pasted(""))
@pytest.mark.parametrize("link", [PRIVATE, PUBLIC, replace(PRIVATE, key=None)], ids=["private", "public", "hash"])
def test_a_link_is_taken_as_people_paste_it(link: Link, how: str) -> None:
    assert parse_link(pasted(str(link))[how]) == link
    assert parse_link(pasted(str(link).removeprefix("shoal:"))[how]) == link


@pytest.mark.parametrize("how", pasted(""))
def test_a_pasted_link_with_one_wrong_character_is_still_refused(how: str) -> None:
    text = TEXTS["private"]
    for at in range(len(text)):
        for new in "a#.\xa0":
            if new != text[at]:
                with pytest.raises(MalformedLink):
                    parse_link(pasted(text[:at] + new + text[at + 1 :])[how])


@settings(max_examples=200)
@given(PATHS, st.sampled_from(["private", "public"]), st.sampled_from(["{}", " {}. ", "«{}».", "**{}**", "> {}\n"]))
def test_a_path_survives_in_a_sentence(path: bytes, name: str, around: str) -> None:
    link = replace(parse_link(TEXTS[name]), path=path)
    assert parse_link(around.format(link)) == link
    assert link.hash == TEXTS[name].partition("#")[0]
    half = len(str(link)) - 10
    assert parse_link(f"> {str(link)[:half]} \r\n> {str(link)[half:]}\n") == link


def test_the_form_of_a_path() -> None:
    assert str(replace(PUBLIC, path=b"holiday/img 01~.jpg")) == f"{PUBLIC}/holiday/img%2001~.jpg"
    assert str(replace(PRIVATE, path="é#1".encode())) == f"{PRIVATE}/%C3%A9%231"
    assert str(replace(PRIVATE, path=b"etc...")) == f"{PRIVATE}/etc..%2E"
    assert str(replace(PRIVATE, path=b"a_")) == f"{PRIVATE}/a%5F"
    assert "secret" not in repr(replace(PRIVATE, path=b"secret"))


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("/", b""),
        ("/a/", b"a"),
        ("/a%2fb", b"a/b"),
        ("/é(1)+,b", "é(1)+,b".encode()),
        ("/a#b", b"a#b"),
        ("/a\u200bb\xad", b"ab"),
        ("/a/%23", b"a/#"),
        ("/aus%20Köln.jpg?)”.", "aus Köln.jpg".encode()),
        ("/a.\n.b", b"a..b"),
    ],
)
@pytest.mark.parametrize("name", ["private", "public", "bare"])
def test_paths_as_people_type_them(typed: str, path: bytes, name: str) -> None:
    assert parse_link(TEXTS[name] + typed) == replace(parse_link(TEXTS[name]), path=path)
    if "#" in TEXTS[name]:
        assert parse_link(TEXTS[name].replace("#", "%23") + typed) == replace(parse_link(TEXTS[name]), path=path)


def test_a_path_behind_the_hash_of_a_private_file_is_refused() -> None:
    with pytest.raises(MalformedLink, match="behind the key"):
        parse_link(f"{PRIVATE.hash}/a")
    assert parse_link(f"{PRIVATE.hash}/") == replace(PRIVATE, key=None)


@pytest.mark.parametrize(
    ("path", "match"),
    [
        ("a b", "blank"),
        ("a\tb", "blank"),
        ("it's", "quotation mark"),
        ("a\udcffb", "blank"),
        ("100%", "without two hexadecimal digits"),
        ("%zz", "without two hexadecimal digits"),
        ("a//b", "empty name"),
        ("/a", "empty name"),
        ("a//", "empty name"),
        ("./a", "'.'"),
        ("a/../b", r"'\.\.'"),
        ("%2e%2E/a", r"'\.\.'"),
        ("a%00", "zero byte"),
        ("a" * 4097, "more than 4096 bytes"),
        ("a" * 17000, "too long"),
    ],
    ids=lambda text: text[:20],
)
def test_what_is_no_path(path: str, match: str) -> None:
    with pytest.raises(MalformedLink, match=match):
        parse_link(f"{PRIVATE}/{path}")


def test_the_longest_path_fits() -> None:
    link = replace(PRIVATE, path=b"\xff" * 4096)
    assert parse_link(f"  {link}\n") == link


def test_a_path_makes_no_wrong_link_right() -> None:
    text = f"{TEXTS['private']}/a"
    for at in range(len(TEXTS["private"])):
        for new in "a/.":
            if new != text[at]:
                with pytest.raises(MalformedLink):
                    parse_link(text[:at] + new + text[at + 1 :])


def test_form() -> None:
    assert len(str(PRIVATE)) == 6 + 64 + 1 + 64
    assert str(PRIVATE).startswith(PRIVATE.hash + "#")
    assert str(PUBLIC) == PUBLIC.hash
    assert KEY.hex() not in repr(PRIVATE)
    assert str(KEY) not in repr(PRIVATE)


@pytest.mark.parametrize("name", TEXTS)
def test_one_changed_character_anywhere_is_refused(name: str) -> None:
    text = TEXTS[name]
    for at, old in enumerate(text):
        for new in REPLACEMENTS:
            if new != old:
                with pytest.raises(MalformedLink):
                    parse_link(text[:at] + new + text[at + 1 :])


@pytest.mark.parametrize("name", TEXTS)
def test_lost_added_and_swapped_characters_are_refused(name: str) -> None:
    text = TEXTS[name]
    for at in range(1, len(text)):
        broken = [text[:at] + text[at + 1 :], text[:at] + "a" + text[at:], text[:at]]
        if text[at] != text[at - 1]:
            broken.append(text[: at - 1] + text[at] + text[at - 1] + text[at + 1 :])
        for one in broken:
            if one != PRIVATE.hash:  # a private link cut at its '#' is the hash
                with pytest.raises(MalformedLink):
                    parse_link(one)


@pytest.mark.parametrize("kind", [0x00, 0x01, 0x12, 0x1F, 0x20, 0xFF])
def test_other_kinds_ask_for_a_newer_version(kind: int) -> None:
    with pytest.raises(MalformedLink, match="newer version"):
        parse_link("shoal:" + part(kind, FILE_ID, "link id checksum"))
    if kind:
        with pytest.raises(MalformedLink, match="newer version"):
            parse_link(PRIVATE.hash + "#" + part(kind, KEY, "link key checksum"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "#",
        "shoal:",
        "shoal:#",
        "shoal:" * 3,
        "SHOAL:" + TEXTS["bare"],
        TEXTS["bare"].upper(),
        "shoal:shoal:" + TEXTS["bare"],
        "shoal://" + TEXTS["bare"],
        TEXTS["hash"] + "#",
        TEXTS["private"] + "#",
        TEXTS["private"] + "#" + TEXTS["private"][-64:],
        TEXTS["public"] + "#" + TEXTS["private"][-64:],
        TEXTS["hash"] + "#" + TEXTS["bare"],
        TEXTS["hash"] + " " + TEXTS["hash"],
        TEXTS["bare"] + "=",
        "a" * 5000,
        " " * 10**6 + TEXTS["hash"],
        "https://example.org/" + TEXTS["hash"],
    ],
    ids=lambda text: text[:30] + f" ({len(text)})",
)
def test_what_is_no_link(text: str) -> None:
    with pytest.raises(MalformedLink):
        parse_link(text)


def test_capital_letters_are_named_as_the_reason() -> None:
    with pytest.raises(MalformedLink, match="capital letters"):
        parse_link(TEXTS["private"].upper())


@settings(max_examples=300)
@given(st.text(max_size=150) | st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567#:", min_size=60, max_size=140))
def test_random_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedLink):
        parse_link(text)


def test_wrong_lengths_and_a_public_key_part() -> None:
    builds: list[Callable[[], Link]] = [
        lambda: Link(FileId(b"short")),
        lambda: Link(FILE_ID, LinkKind.PRIVATE, b"short"),
        lambda: Link(FILE_ID, LinkKind.PUBLIC, KEY),
        lambda: replace(PUBLIC, key=KEY),
        *(lambda path=path: replace(PUBLIC, path=path) for path in (b"/a", b"a/", b"a//b", b"..", b"a\0", bytes(4097))),
    ]
    for build in builds:
        with pytest.raises(MalformedLink):
            build()
