"""What is wrong with this machine's disk, or with what this home keeps, in sentences for the volunteer.

A node whose disk fails goes on: the other holders make up for it, and the disk may come back. But the volunteer has to
hear of it.
"""

from dataclasses import field
from pathlib import Path

from shoal.node.store import LocalFailure, ShareDamaged, StoreError, StoreFull, StoreHealth
from shoal.values import dataclass


@dataclass
class Problems:
    """What is wrong now.

    failure: what the last try to use the share store came to; empty where it worked.
    twin: where another node runs with this node's key; empty where none is known.
    notices: what holds for as long as the node runs.
    unkept: by file id, which files on this home's list were not renewed when they were due.
    """

    failure: str = ""
    twin: str = ""
    notices: list[str] = field(default_factory=list)
    unkept: dict[bytes, str] = field(default_factory=dict)

    def failed(self, error: StoreError) -> None:
        """The store could not do something. A damaged share is counted by the store itself."""
        if isinstance(error, StoreFull):
            self.failure = (
                "The disk is full, or a quota on it is used up. The node can still read its shares, but it can store "
                "nothing. Make room on the disk."
            )
        elif isinstance(error, LocalFailure) and not isinstance(error, ShareDamaged):
            self.failure = (
                f"The share store does not work: {error}. Check the disk, then restart the node. Until then the other "
                "holders stand in for this node."
            )

    def worked(self) -> None:
        """The store has just read and written."""
        self.failure = ""

    def of_node(self) -> list[str]:
        """What is wrong beside the disk."""
        return [*([self.twin] if self.twin else []), *self.notices, *self.unkept.values()]

    def of_disk(self, health: StoreHealth | None) -> list[str]:
        """What is wrong with the disk. `health` is None when the store could not even be asked."""
        return [*([self.failure] if self.failure else []), *(_of_shares(health) if health is not None else [])]


def _of_shares(health: StoreHealth) -> list[str]:
    told = []
    if health.lost:
        told.append(
            f"{_shares(health.lost)} missing from the disk. The other holders rebuild them. If a disk belongs there, "
            "mount it and restart the node."
        )
    if health.damaged:
        told.append(
            f"{_shares(health.damaged)} damaged on the disk and set aside. Damaged shares are rebuilt. If this happens "
            "again, replace the disk."
        )
    return told


def _shares(count: int) -> str:
    return "1 share is" if count == 1 else f"{count} shares are"


def not_renewed(name: str, left_s: float) -> str:
    """What to say of a file that is kept from here and could not be renewed. `left_s`: of its lease, by our clock."""
    days = int(left_s // 86_400)
    lease = "Its lease is over" if left_s <= 0 else f"Its lease ends in {days} {'day' if days == 1 else 'days'}"
    return (
        f"Cannot renew {name}, which this home keeps alive: its holders do not answer. {lease}. The node tries again "
        "in every epoch. If the owner has deleted the file, take it off the list with: shoal unkeep"
    )


def no_room(free_disk_bytes: int, reserve_bytes: int) -> list[str]:
    """What to say where the disk, and not the capacity that was given, leaves no room for new shares."""
    if free_disk_bytes > reserve_bytes:
        return []
    lower = " Make room on the disk, or lower the reserve." if free_disk_bytes else " Make room on the disk."
    return [
        f"The node takes nothing new: {_amount(free_disk_bytes)} of the disk are free, and {_amount(reserve_bytes)} "
        f"are to stay free. It serves what it has.{lower}"
    ]


def _amount(count_bytes: int) -> str:
    return f"{count_bytes / 1e9:.3g} GB" if count_bytes >= 10**8 else f"{count_bytes / 1e6:.3g} MB"


def bare_store(folder: Path) -> str:
    """What to say when a node that has run before finds nothing where its shares were."""
    return (
        f"{folder} is empty, although this node has run before. The node has started again without any share. If a "
        "disk belongs there, stop the node, mount the disk and start the node again."
    )


def strange_files(folder: Path, count: int) -> str:
    """What to say of files among the shares that are none."""
    what = "is 1 thing that the node does not use" if count == 1 else f"are {count} things that the node does not use"
    return f"In {folder / 'shares'} there {what}: left alone, its space counted as used."
