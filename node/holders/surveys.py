"""What a survey's answer says: for each file asked about, the shares a peer keeps of it (docs/channel.md, "survey").

One request covers all the files of one look that two peers have in common, so that watching over thousands of files
costs a few messages per peer and epoch.
"""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgpack

from shoal.dht import Contact
from shoal.erasure import FileId
from shoal.node.channel import MAX_PAYLOAD_BYTES, MAX_SURVEY_COUNT, MalformedMessage, Survey
from shoal.node.context import ASK_TIMEOUT_S, Context
from shoal.node.formats import MAX_STATEMENT_BYTES, unpack
from shoal.values import dataclass

MAX_ROWS_COUNT = 256  # shares of one file
MAX_DELETION_BYTES = 128  # a packed deletion has 76


class MalformedSurvey(Exception):
    """The payload of a survey's answer does not say what one says."""


@dataclass(frozen=True, slots=True)
class SurveyRow:
    """A share that a peer says it keeps, until `lease_end` (s since the epoch). `statement` is signed, unchecked, and
    empty where none was asked for."""

    share: int
    lease_end: int
    statement: bytes = b""


Entry: TypeAlias = tuple[SurveyRow, ...] | bytes
"""What a peer says of one file: rows, or the packed deletion by its owner."""


def pack_survey(entries: Iterable[Entry]) -> bytes:
    """The payload; ends with the last entry that fits."""
    packer = msgpack.Packer(use_bin_type=True)
    packed: list[bytes] = []
    room = MAX_PAYLOAD_BYTES - 8  # the array's own head has 5 bytes at most
    for entry in entries:
        rows = entry if isinstance(entry, bytes) else [_columns(row) for row in entry[:MAX_ROWS_COUNT]]
        item: bytes = packer.pack(rows)
        room -= len(item)
        if room < 0:
            break
        packed.append(item)
    head: bytes = packer.pack_array_header(len(packed))
    return head + b"".join(packed)


def _columns(row: SurveyRow) -> list[object]:
    return [row.share, row.lease_end, row.statement]


def unpack_survey(payload: bytes, asked: int) -> list[Entry]:
    """The entries for the first of the `asked` files, statements and deletions unchecked; MalformedSurvey."""
    entries = unpack(payload, MalformedSurvey, most_items=MAX_SURVEY_COUNT)
    if not isinstance(entries, list) or len(entries) > asked:
        raise MalformedSurvey("no list of an entry per file")
    return [_entry(entry) for entry in entries]


def _entry(entry: object) -> Entry:
    if isinstance(entry, bytes) and 0 < len(entry) <= MAX_DELETION_BYTES:
        return entry
    if not isinstance(entry, list) or len(entry) > MAX_ROWS_COUNT:
        raise MalformedSurvey("neither rows nor a deletion")
    return tuple(_row(row) for row in entry)


def _row(row: object) -> SurveyRow:
    match row:
        case [int(share), int(lease_end), bytes(statement), *_] if (
            _are_numbers(share, lease_end) and len(statement) <= MAX_STATEMENT_BYTES
        ):
            return SurveyRow(share, lease_end, statement)
    raise MalformedSurvey("not made of shares with their leases")


def _are_numbers(share: object, lease_end: object) -> bool:
    return type(share) is int and 0 <= share < 256 and type(lease_end) is int and 0 <= lease_end < 2**63


async def ask_survey(
    context: Context,
    contact: Contact,
    file_ids: Sequence[FileId],
    *,
    with_statements: bool = False,
    timeout_s: float = ASK_TIMEOUT_S,
    patience_s: float = 0.0,
) -> tuple[int, list[Entry]]:
    """What a peer keeps of up to 1,024 files, and its clock. `patience_s` is for a busy peer, as in `Context.ask`.

    Raises PeerError; MalformedMessage for what is no answer.
    """
    request = Survey(b"".join(file_ids), with_statements)
    reply = await context.ask(contact, request, timeout_s=timeout_s, patience_s=patience_s)
    try:
        return reply.clock, unpack_survey(bytes(reply.payload), len(file_ids))
    except MalformedSurvey as error:
        raise MalformedMessage(f"a survey that is {error}") from error


def rows_of(entries: Sequence[Entry], at: int) -> tuple[SurveyRow, ...]:
    """The rows for the file asked about at place `at`; empty where it is deleted or was not answered."""
    entry = entries[at] if at < len(entries) else ()
    return () if isinstance(entry, bytes) else entry
