"""Where a command gets its link from, and whether it is one: all of it offline and before anything heavy is
loaded.

The command line of a process is visible to everybody on the machine, so a link, which is a secret, may also
come from a file, from the environment or from standard input.
"""

import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from shoal.cli.exits import BadUsageError, CommandError
from shoal.cli.output import visible
from shoal.erasure.errors import MalformedLink
from shoal.erasure.link import MAX_TEXT_CHARS, PART_CHARS, SCHEME, Link, LinkKind, parse_link, unwrapped

if TYPE_CHECKING:
    from shoal.cli.context import Globals

LINK_VARIABLE = "SHOAL_LINK"

_HOW = f"Pass it as an argument, with --link-file, or set ${LINK_VARIABLE}."


def take_link(
    argument: str | None,
    link_file: str | None,
    *,
    needs_key: bool,
    takes_path: bool = False,
    settings: "Globals | None" = None,
    environment: Mapping[str, str] = os.environ,
    stdin: Callable[[], BinaryIO | None] = lambda: sys.stdin.buffer if sys.stdin else None,
) -> Link:
    """The link of a command: the argument, else --link-file, else $SHOAL_LINK, else standard input.

    Standard input is read when the argument is `-`, or when there is nothing else and it is no terminal.
    With `settings` the argument may also be the name of a file that their home has published. `needs_key` refuses a
    private link without key. Without `takes_path` a link that leads into a folder is refused: the command would do its
    work on the whole folder. BadUsageError for whatever makes no link.
    """
    if argument is not None and link_file is not None:
        raise BadUsageError("Give the link as an argument or with --link-file, not both.")
    if settings is not None and argument is not None:
        from shoal.cli.published import is_name, link_of

        if is_name(argument):
            return link_of(settings, argument)
    link = _parse(_link_text(argument, link_file, environment, stdin))
    if needs_key and link.kind is LinkKind.PRIVATE and link.key is None:
        raise BadUsageError(
            "This link has no key. It is the hash of a private file: enough to check the file, but not to read it. "
            "Use the whole link, with the part after '#'."
        )
    if link.path and not takes_path:
        raise BadUsageError("This link has a path, but this command works on whole files and folders. Leave it out.")
    return link


def take_link_and_paths(
    argument: str | None, paths: Sequence[str], link_file: str | None, *, settings: "Globals"
) -> tuple[Link, list[bytes]]:
    """The link of a command that reads, and paths in its folder. Where --link-file has the link, all arguments are
    paths. BadUsageError as `take_link`, and for what can be no path.
    """
    given = [] if argument is None else [argument]
    if link_file is not None and given and given != ["-"] and not given[0].lower().startswith(SCHEME):
        given, paths = [], [*given, *paths]
    link = take_link(given[0] if given else None, link_file, needs_key=True, takes_path=True, settings=settings)
    return link, [_inner_path(path) for path in paths]


def _inner_path(path: str) -> bytes:
    from shoal.node.errors import UsageError
    from shoal.node.fetching.folder import inner_path

    try:
        return inner_path(path)
    except UsageError as error:
        raise BadUsageError(str(error)) from error


def _link_text(
    argument: str | None,
    link_file: str | None,
    environment: Mapping[str, str],
    stdin: Callable[[], BinaryIO | None],
) -> str:
    if argument not in (None, "-"):
        return argument or ""
    if link_file is not None:
        return _from_file(Path(link_file))
    if argument is None and environment.get(LINK_VARIABLE, "").strip():
        return environment[LINK_VARIABLE]
    stream = stdin()
    if stream is None or (argument is None and stream.isatty()):
        raise BadUsageError(f"No link was given. {_HOW}")
    return _decode(stream.read(MAX_TEXT_CHARS + 1), "standard input")


def _from_file(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            if stat.S_ISDIR(os.fstat(file.fileno()).st_mode):
                raise CommandError(f"Cannot read the link file {visible(str(path))}: it is a folder.")
            return _decode(file.read(MAX_TEXT_CHARS + 1), f"the link file {visible(str(path))}")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a possible file name"
        raise CommandError(f"Cannot read the link file {visible(str(path))}: {reason}.") from error


def _decode(content: bytes, where: str) -> str:
    text = content.decode("utf-8", "surrogateescape")  # bytes of another encoding become what no link has
    if not text.strip():
        raise BadUsageError(f"{where[:1].upper()}{where[1:]} held no link. {_HOW}")
    return text


def _parse(text: str) -> Link:
    try:
        return parse_link(text)
    except MalformedLink as error:
        # Not repeated in the message: a mistyped link is still most of a secret.
        bare = unwrapped(text[:MAX_TEXT_CHARS])
        if not bare.lower().startswith(SCHEME) and len(bare) != PART_CHARS:
            raise BadUsageError(f"That is not a Shoal link (they start with {SCHEME}).") from error
        raise BadUsageError(f"Malformed link: {error}. Copy the whole link again.") from error
