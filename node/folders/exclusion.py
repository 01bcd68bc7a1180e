"""What a walk leaves out: by patterns that the user gave, and by those of each `.gitignore` on the way."""

from collections.abc import Iterable

from shoal.node.errors import LocalError, UsageError
from shoal.node.folders.entries import shown
from shoal.node.folders.patterns import Pattern, parse_pattern
from shoal.node.names import printable
from shoal.values import dataclass

IGNORE_FILE = b".gitignore"
MAX_PATTERN_FILE_BYTES = 2**20
MAX_PATTERNS = 10_000  # in force for one name, from all places together; each costs about a microsecond a name


@dataclass(frozen=True, slots=True)
class PatternList:
    """The patterns of one place. The last one that matches decides.

    :ivar base: the directory of the tree that they stand in; empty for the top. Patterns are about paths below it.
    """

    patterns: tuple[Pattern, ...]
    base: bytes = b""

    def verdict(self, path: bytes, *, is_directory: bool) -> bool | None:
        """Whether to leave out what is at this path of the tree. None where no pattern matches."""
        below = path[len(self.base) + 1 :] if self.base else path
        for pattern in reversed(self.patterns):
            if pattern.matches(below, is_directory=is_directory):
                return pattern.excludes
        return None


@dataclass(frozen=True, slots=True)
class Exclusion:
    """The patterns that are in force in one directory.

    :ivar given: by the user. They are stronger than all others.
    :ivar found: those of each `.gitignore` on the way down, the deepest and strongest first.
    """

    given: PatternList
    found: tuple[PatternList, ...] = ()

    def covers(self, path: bytes, *, is_directory: bool) -> bool:
        """Whether to leave out what is at this path of the tree. The directory that it is in was not left out."""
        for patterns in (self.given, *self.found):
            verdict = patterns.verdict(path, is_directory=is_directory)
            if verdict is not None:
                return verdict
        return False

    def with_ignore_file(self, base: bytes, text: bytes) -> "Exclusion":
        """What is in force within the directory `base`, whose `.gitignore` has this text.

        Raises LocalError where there are too many patterns, or one is too long.
        """
        try:
            lines = _lines(text)
            patterns = tuple(pattern for line in lines if (pattern := parse_pattern(line)) is not None)
            total = len(patterns) + sum(len(each.patterns) for each in (self.given, *self.found))
            if total > MAX_PATTERNS:
                raise ValueError(f"more than {MAX_PATTERNS} patterns, with those of the folders above")
        except ValueError as error:
            where = base + b"/" + IGNORE_FILE if base else IGNORE_FILE
            raise LocalError(f"Cannot use {shown(where)}: {error}.") from error
        return Exclusion(self.given, (PatternList(patterns, base), *self.found))


def given_patterns(patterns: Iterable[str | bytes]) -> Exclusion:
    """What the user wants left out. Raises UsageError for a pattern that can match nothing, and for too many."""
    parsed: list[Pattern] = []
    for text in patterns:
        line = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
        try:
            pattern = parse_pattern(line)
        except ValueError as error:
            raise UsageError(f"The pattern {shown(line)} is too long: {error}.") from error
        if pattern is None:
            raise UsageError(f"The pattern {shown(line)!r} can match nothing. A # or ! at its start needs a backslash.")
        parsed.append(pattern)
        if len(parsed) > MAX_PATTERNS:
            raise UsageError(f"There are more than {MAX_PATTERNS} patterns.")
    return Exclusion(PatternList(tuple(parsed)))


def patterns_of_file(text: bytes, name: str) -> list[bytes]:
    """The lines of a file of patterns that mean something. Raises UsageError, which names the file."""
    try:
        return [line for line in _lines(text) if parse_pattern(line) is not None]
    except ValueError as error:
        raise UsageError(f"Cannot use {printable(name)}: {error}.") from error


def _lines(text: bytes) -> list[bytes]:
    if len(text) > MAX_PATTERN_FILE_BYTES:
        raise ValueError(f"a file of patterns has at most {MAX_PATTERN_FILE_BYTES} bytes")
    return [line.removesuffix(b"\r") for line in text.removeprefix(b"\xef\xbb\xbf").split(b"\n")]
