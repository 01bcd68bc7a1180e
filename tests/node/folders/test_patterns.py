"""Patterns mean what they mean to git, and no name keeps one of them busy."""

import os
import random
import subprocess
import time
from pathlib import Path

import pytest

from shoal.node.errors import LocalError, UsageError
from shoal.node.folders.exclusion import MAX_PATTERNS, Exclusion, given_patterns, patterns_of_file
from shoal.node.folders.patterns import parse_pattern
from shoal.node.folders.walk import WalkChoices, walk_tree

NAMES = [b"a", b"b", b"ab", b"foo", b"bar", b"foo.c", b".x", b"a\nb", b"\xff\xfe", b"[a]", b"a\\b", b"!x", b"#x", b"x "]
WORDS = rb"a b foo * ? / / [ab] [!a] [^b] [a-c] []a] [!]] [[:alpha:]] [[:nope:]] [z-a] [ ] ! # . c \* [\]] [a-\c] [--0]"
PIECES = [*WORDS.split(), b"[[:x]", b"x", b" ", b"\\ ", b"\t", b"\xff", b"/**/"]


def any_pattern(rng: random.Random) -> bytes:
    text = b"".join(rng.choice(PIECES) for _ in range(rng.randint(1, 6)))
    return rng.choice((b"", b"", b"!")) + text + rng.choice((b"", b"", b"/"))


def any_tree(rng: random.Random, folder: bytes, depth: int = 0) -> None:
    for name in rng.sample(NAMES, rng.randint(2, 6)):
        path = folder + b"/" + name
        if depth < 3 and rng.random() < 0.5:
            os.mkdir(path)
            any_tree(rng, path, depth + 1)
        else:
            Path(os.fsdecode(path)).touch()
    if not depth or rng.random() < 0.5:
        text = b"\n".join(any_pattern(rng) for _ in range(rng.randint(1, 5))) + rng.choice((b"", b"\n", b"\r\n"))
        Path(os.fsdecode(folder), ".gitignore").write_bytes(text)


@pytest.mark.parametrize("seed", range(12))
def test_a_walk_leaves_out_what_git_does(tmp_path: Path, seed: int) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    any_tree(random.Random(seed), os.fsencode(tree))
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    env |= {"GIT_DIR": str(tmp_path / "repository"), "GIT_WORK_TREE": str(tree)}
    subprocess.run(["git", "init", "--quiet"], env=env, check=True)
    command = ["git", "ls-files", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, env=env, cwd=tree, check=True, capture_output=True).stdout
    found = [each.path for each in walk_tree([tree], WalkChoices(gitignore=True)).found if each.kind == 0]
    assert sorted(found) == sorted(listed.split(b"\0")[:-1])


@pytest.mark.parametrize(
    ("line", "matching", "others"),
    [
        ("*.o", ["a.o", "b/c.o", ".o"], ["a.oo", "a.o/b"]),
        ("/a", ["a"], ["b/a"]),
        ("a/b", ["a/b"], ["c/a/b", "a/b/c"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("**/a/b", ["a/b", "x/y/a/b"], ["xa/b"]),
        ("a/**/b", ["a/b", "a/x/y/b"], ["ab", "a/xb"]),
        ("a*b*c", ["abc", "a\nbxbc", "abcbc"], ["ab/c", "acb"]),
        ("[!a-c]?", ["d\n", "dd"], ["ad", "d", "//"]),
        ("**", ["a", "a/b"], []),
        (r"\!\#\*", ["!#*"], ["!#x"]),
        ("a ", ["a"], ["a "]),
        ("a\\ ", ["a "], ["a"]),
    ],
)
def test_what_a_pattern_matches(line: str, matching: list[str], others: list[str]) -> None:
    pattern = parse_pattern(line.encode())
    assert pattern is not None
    for path in (*matching, *others):
        assert pattern.matches(path.encode(), is_directory=False) == (path in matching), path


@pytest.mark.parametrize("line", ["", "  ", "# a", "a\\", "[a", "[[:nope:]]", "/", "a//b", "!"])
def test_what_can_match_nothing(line: str) -> None:
    assert parse_pattern(line.encode()) is None
    with pytest.raises(UsageError, match="can match nothing"):
        given_patterns([line])


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"*a" * 100 + b"b", b"a" * 255),
        (b"**/a/" * 30 + b"b", b"/".join([b"a"] * 64)),
        (b"**/*a*a*a*b/" * 10 + b"*a*b", b"/".join([b"a" * 63] * 64)),
        (b"[!b]*" * 50 + b"b", b"a" * 255),
    ],
)
def test_no_name_keeps_a_pattern_busy(line: bytes, path: bytes) -> None:
    pattern = parse_pattern(line)
    assert pattern is not None
    started = time.process_time()
    assert not pattern.matches(path, is_directory=False)
    assert time.process_time() - started < 0.2


def test_the_last_pattern_decides_and_the_user_has_the_last_word() -> None:
    given = given_patterns(["*.log", "!keep.log"])
    assert given.covers(b"a/x.log", is_directory=False)
    assert not given.covers(b"a/keep.log", is_directory=False)
    below = given.with_ignore_file(b"a", b"keep.log\n/x\n!/y\n").with_ignore_file(b"a/b", b"!/x\ny\n")
    assert not below.covers(b"a/keep.log", is_directory=False)
    assert below.covers(b"a/x", is_directory=False)
    assert not below.covers(b"a/b/x", is_directory=False)
    assert below.covers(b"a/b/y", is_directory=False)


def test_too_many_patterns_are_refused() -> None:
    with pytest.raises(UsageError, match="more than"):
        given_patterns(["a"] * (MAX_PATTERNS + 1))
    half = Exclusion(given_patterns([]).given).with_ignore_file(b"", b"a\n" * (MAX_PATTERNS - 10))
    with pytest.raises(LocalError, match=r"a/\.gitignore: more than"):
        half.with_ignore_file(b"a", b"a\n" * 11)
    with pytest.raises(LocalError, match="at most"):
        half.with_ignore_file(b"a", b"a" * 4_097)


def test_patterns_of_a_file() -> None:
    assert patterns_of_file(b"\xef\xbb\xbf# all objects\n*.o\r\n\n!a.o\n", "f") == [b"*.o", b"!a.o"]
    with pytest.raises(UsageError, match="Cannot use f: "):
        patterns_of_file(b"\n" * (2**20 + 1), "f")
