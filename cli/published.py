"""Files that this home has published, by the name that `shoal ls` shows: a command takes it in place of a link."""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from shoal.cli.context import Globals
from shoal.cli.exits import BadUsageError
from shoal.cli.tables import day
from shoal.cli.units import format_size
from shoal.erasure.errors import MalformedLink
from shoal.erasure.link import SCHEME, Link, parse_link

if TYPE_CHECKING:
    from shoal.node import PublishedFile

_PART_OF_A_LINK = re.compile(r"[a-z2-7]{30}", re.IGNORECASE)  # no usual name has so long a run of these


def is_name(text: str) -> bool:
    """Whether `text` can only be the name of a file: it is no link, and no part of a link that was mistyped.

    A name is repeated in messages. A mistyped link must not be, as it is still most of a secret.
    """
    if text == "-" or text.strip().lower().startswith(SCHEME) or _PART_OF_A_LINK.search(text):
        return False
    try:
        parse_link(text)
    except MalformedLink:
        return bool(text.strip())
    return False


def link_of(settings: Globals, name: str) -> Link:
    """The link of the one file of that name in this home's list. BadUsageError where the name is not clear."""
    from shoal.node.home.ledger import Ledger

    return named(Ledger(settings.locate_home().ledger_file).files(), name, look=settings.command("ls"))


def named(files: "Sequence[PublishedFile]", name: str, *, look: str) -> Link:
    """The link of the one published file of that name. A deleted one is meant only where no other has the name.

    look: the command that shows the names.    Raises BadUsageError, with the candidates, where the name is not clear.
    """
    found = [file for file in files if file.name == name]
    found = [file for file in found if file.deleted_at is None] or found
    if not found:
        raise BadUsageError(
            f"This home has published no file named {name!r}, and it is no link: they start with {SCHEME}. "
            f"See the files of this home with: {look}"
        )
    if len(found) > 1:
        lines = [f"  {file.link.hash}  {day(file.published_at)}  {format_size(file.size)}" for file in found]
        raise BadUsageError("\n".join((f"{len(found)} files are named {name!r}. Choose one by its hash:", *lines)))
    return found[0].link
