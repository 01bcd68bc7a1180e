"""What is wrong with this machine's disk, or with what this home keeps, in sentences for the volunteer.

A node whose disk fails goes on: the other holders make up for it, and the disk may come back. But the volunteer has to
hear of it.
"""

from dataclasses import dataclass, field
from pathlib import Path

from shoal.node.store import Health, LocalFailure, ShareDamaged, StoreError, StoreFull


@dataclass
class Problems:
    """What is wrong now.

    failure: what the last try to use the share store came to; empty where it worked.
    notices: what holds for as long as the node runs.
    unkept: by file id, which files on this home's list were not renewed when they were due.
    """

    failure: str = ""
    notices: list[str] = field(default_factory=list)
    unkept: dict[bytes, str] = field(default_factory=dict)

    def failed(self, error: StoreError) -> None:
        """The store could not do something. A damaged share is counted by the store itself."""
        if isinstance(error, StoreFull):
            self.failure = "The disk is full: shares can be read, and nothing can be noted down. Make room on it."
        elif isinstance(error, LocalFailure) and not isinstance(error, ShareDamaged):
            self.failure = (
                f"The share store does not work: {error}. Look after the disk, then restart the node. The other "
                "holders make up for it meanwhile."
            )

    def worked(self) -> None:
        """The store has just read and written."""
        self.failure = ""

    def sentences(self, health: Health | None) -> list[str]:
        """All there is to say. `health` is None when the store could not even be asked."""
        told = list(self.notices)
        if self.failure:
            told.append(self.failure)
        if health is not None:
            told += _of_shares(health)
        return told + list(self.unkept.values())


def _of_shares(health: Health) -> list[str]:
    told = []
    if health.lost:
        told.append(
            f"{_shares(health.lost)} not on the disk any more; the other holders make up for it. If a disk is to be "
            "mounted there, mount it and restart the node."
        )
    if health.damaged:
        told.append(
            f"{_shares(health.damaged)} damaged on the disk and put aside; the other holders make up for it. If it "
            "happens again, replace the disk."
        )
    return told


def _shares(count: int) -> str:
    return "1 share is" if count == 1 else f"{count} shares are"


def not_renewed(name: str, left_s: float) -> str:
    """What to say of a file that is kept from here and could not be renewed. `left_s`: of its lease, by our clock."""
    days = int(left_s // 86_400)
    lease = "its lease is over" if left_s <= 0 else f"it has {days} {'day' if days == 1 else 'days'} of its lease left"
    return (
        f"{name} is on the list of what this home keeps, and its holders could not be reached to renew it: {lease}. "
        "This is tried again in every epoch. If its owner has deleted it, take it off the list with: shoal unkeep"
    )


def bare_store(folder: Path) -> str:
    """What to say when a node that has run before finds nothing where its shares were."""
    return (
        f"There was nothing in {folder}, though this node has run before: it began anew, with no share. If a disk is "
        "to be mounted there, stop the node, mount it and start the node again."
    )
