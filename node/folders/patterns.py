"""Patterns as in a `.gitignore`: which paths of a tree one of them is about.

A pattern becomes a regular expression over bytes, made so that no name keeps it searching: what stands between two `*`
is taken where it is found first, and a later place would leave less for the rest. So a match reads each byte of a path
at most as often as the pattern has bytes. Patterns may come from a stranger, in a `.gitignore` of the tree.

A pattern decides about one path alone. A walk does not enter what is left out, as git does not.
"""

import re
import string
from collections.abc import Iterator

from shoal.values import dataclass

MAX_PATTERN_BYTES = 4_096  # as long as a path may be

_SLASH, _STAR, _STARS = b"/", b"*", b"**"  # marks among the pieces of a pattern; all others are regular expressions
_ANY_NAMES = rb"(?:[^/]+/)*?"
_CLASSES = {
    "alnum": string.ascii_letters + string.digits,
    "alpha": string.ascii_letters,
    "blank": " \t",
    "cntrl": "".join(map(chr, (*range(32), 127))),
    "digit": string.digits,
    "graph": "".join(map(chr, range(33, 127))),
    "lower": string.ascii_lowercase,
    "print": "".join(map(chr, range(32, 127))),
    "punct": string.punctuation,
    "space": string.whitespace,
    "upper": string.ascii_uppercase,
    "xdigit": string.hexdigits,
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """One line of a `.gitignore`.

    :ivar excludes: false for a line that starts with `!`, which takes back what others exclude.
    :ivar by_name: whether it is about names anywhere, and not about whole paths.
    """

    regex: re.Pattern[bytes]
    excludes: bool
    by_name: bool
    only_directories: bool

    def matches(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether it is about what is at this path, which is relative to where the pattern stands."""
        if self.only_directories and not is_directory:
            return False
        return self.regex.fullmatch(path.rpartition(b"/")[2] if self.by_name else path) is not None


def parse_pattern(line: bytes) -> Pattern | None:
    """What a line means. None for an empty one, for a comment, and for what can match nothing.

    Raises ValueError for a line that is too long.
    """
    if len(line) > MAX_PATTERN_BYTES:
        raise ValueError(f"a pattern has at most {MAX_PATTERN_BYTES} bytes")
    text = _without_spaces(line)
    if not text or text.startswith(b"#"):
        return None
    excludes = not text.startswith(b"!")
    text = text if excludes else text[1:]
    only_directories = text.endswith(b"/")
    text = text.removesuffix(b"/")
    by_name = b"/" not in text
    try:
        pieces = list(_pieces(text.removeprefix(b"/")))
    except _NeverMatches:
        return None
    regex = _regex(pieces)
    return None if regex is None else Pattern(re.compile(regex, re.DOTALL), excludes, by_name, only_directories)


class _NeverMatches(Exception):
    """The pattern breaks off in the middle: git takes it for one that matches nothing."""


def _without_spaces(line: bytes) -> bytes:
    """The line without the spaces at its end, but for one behind a backslash."""
    text = line.rstrip(b" ")
    backslashes = len(text) - len(text.rstrip(b"\\"))
    return text + b" " if backslashes % 2 and len(text) < len(line) else text


def _pieces(text: bytes) -> Iterator[bytes]:
    """The pattern piece by piece: marks, and expressions that match one byte each."""
    at = 0
    while at < len(text):
        char = text[at : at + 1]
        at += 1
        if char == b"*":
            stars = at
            while text[at : at + 1] == b"*":
                at += 1
            yield _STARS if at > stars else _STAR
        elif char == b"?":
            yield b"[^/]"
        elif char == b"[":
            members, at = _bracket(text, at)
            yield _one_of(members)
        elif char == b"\\":
            if at == len(text):
                raise _NeverMatches
            yield _literal(text[at : at + 1])
            at += 1
        else:
            yield _literal(char)


def _literal(char: bytes) -> bytes:
    return _SLASH if char == b"/" else re.escape(char)


def _one_of(members: set[int]) -> bytes:
    if not members:
        raise _NeverMatches
    return b"[%s]" % b"".join(b"\\x%02x" % member for member in sorted(members))


def _bracket(text: bytes, at: int) -> tuple[set[int], int]:
    """The bytes that a bracket matches, which opened before `at`, and where the pattern goes on. Never a slash."""
    negated = text[at : at + 1] in (b"!", b"^")
    start = at = at + negated
    members: set[int] = set()
    before: int | None = None  # what a range may begin with
    while text[at : at + 1] != b"]" or at == start:
        name = re.compile(rb"\[:([^\]]*):\]").match(text, at)
        if name:
            chars = _CLASSES.get(name[1].decode("latin-1"))
            if chars is None:
                raise _NeverMatches
            members.update(chars.encode())
            before, at = None, name.end()
            continue
        is_range = before is not None and text[at : at + 1] == b"-" and text[at + 1 : at + 2] not in (b"", b"]")
        char, at = _member(text, at + is_range)
        members.update(range(before if is_range and before is not None else char, char + 1))
        before = None if is_range else char
    everything = set(range(256))
    return ((everything - members if negated else members) - {ord("/")}), at + 1


def _member(text: bytes, at: int) -> tuple[int, int]:
    """One byte within a bracket, perhaps behind a backslash, and where the next one is."""
    at += text[at : at + 1] == b"\\"
    if at >= len(text):
        raise _NeverMatches
    return text[at], at + 1


def _regex(pieces: list[bytes]) -> bytes | None:
    """The expression for whole paths. None where the pattern has an empty name, as no path has."""
    names = _split(pieces, _SLASH)
    if not all(names):
        return None
    runs = _split([b"" if name == [_STARS] else _name(name) for name in names], b"")  # what stands between two `**`
    joined = [b"/".join(run) for run in runs]
    if len(joined) == 1:
        return joined[0]
    first, *inner, last = joined
    parts = [first + b"/"] if first else []
    parts += [b"(?>%s%s/)" % (_ANY_NAMES, run) for run in inner if run]
    parts += [_ANY_NAMES + last if last else b".+"]
    return b"".join(parts)


def _name(pieces: list[bytes]) -> bytes:
    """The expression for one name."""
    first, *others = _split([_STAR if piece == _STARS else piece for piece in pieces], _STAR)
    parts = [b"".join(first)]
    parts += [b"(?>[^/]*?%s)" % b"".join(each) for each in others[:-1] if each]
    parts += [b"[^/]*" + b"".join(others[-1])] if others else []
    return b"".join(parts)


def _split(pieces: list[bytes], mark: bytes) -> list[list[bytes]]:
    """The runs of pieces between the marks; one more than there are marks."""
    runs: list[list[bytes]] = [[]]
    for piece in pieces:
        if piece == mark:
            runs.append([])
        else:
            runs[-1].append(piece)
    return runs
