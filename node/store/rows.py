"""A share's row in the database and the trailer of its file say the same; one made from the other."""

from shoal.node.store.catalogue import ShareRow, ShareState
from shoal.node.store.limits import allocated_bytes
from shoal.node.store.shareformat import Trailer


def trailer_of(row: ShareRow, manifest_bytes: int) -> Trailer:
    """The trailer of a share's file."""
    return Trailer(
        row.file_id,
        row.share_number,
        row.share_bytes,
        manifest_bytes,
        row.lease_end,
        row.stored_at,
        row.upload_id,
    )


def share_row(trailer: Trailer, folder: str, lease_end: int) -> ShareRow:
    """The row of a share that lies in a file."""
    return ShareRow(
        file_id=trailer.file_id,
        share_number=trailer.share_number,
        lease_end=lease_end,
        stored_at=trailer.stored_at,
        upload_id=trailer.upload_id,
        share_bytes=trailer.share_bytes,
        file_bytes=allocated_bytes(trailer.file_bytes),
        state=ShareState.WHOLE,
        folder=folder,
        data=None,
    )
