"""Everything that a walk found, packed: a tree may have a million entries.

An entry takes 54 bytes and its name (and its target). As objects of their own they would take ten times as much.
"""

from array import array
from collections.abc import Sequence
from typing import overload

from shoal.node.fingerprints import Fingerprint
from shoal.node.folders.entries import EntryKind
from shoal.node.folders.tree import Walked

_EXECUTABLE = 0x80  # beside the kind


class FoundList(Sequence[Walked]):
    """A list of `Walked`, made anew each time one is taken. A walk adds to it in order."""

    def __init__(self) -> None:
        self._roots: list[bytes] = []
        self._devices: list[int] = []
        self._device_numbers: dict[int, int] = {}
        self._texts = bytearray()  # of each entry its name, and the target of a link behind it
        self._starts, self._parents = array("Q"), array("q")  # an entry at the top has -1 - the number of its root
        self._inodes, self._sizes = array("Q"), array("Q")
        self._mtimes, self._ctimes = array("q"), array("q")
        self._device_of, self._name_bytes, self._flags = array("L"), bytearray(), bytearray()

    def add_root(self, root: bytes) -> int:
        """A directory on disk that paths are relative to; gives the parent of what stands at its top."""
        self._roots.append(root)
        return -len(self._roots)

    def add(
        self,
        parent: int,
        name: bytes,
        kind: EntryKind,
        fingerprint: Fingerprint,
        *,
        executable: bool = False,
        target: bytes = b"",
    ) -> int:
        """Add one entry, and give its number: the parent of what is in it.

        Raises OverflowError, and adds nothing, where a time is beyond what an index can tell.
        """
        times = array("q", (fingerprint.mtime_ns, fingerprint.ctime_ns))
        self._mtimes.append(times[0])
        self._ctimes.append(times[1])
        self._inodes.append(fingerprint.inode)
        self._sizes.append(fingerprint.size)
        self._device_of.append(self._device(fingerprint.device))
        self._parents.append(parent)
        self._starts.append(len(self._texts))
        self._name_bytes.append(len(name))
        self._flags.append(kind | (_EXECUTABLE if executable else 0))
        self._texts += name
        self._texts += target
        return len(self._flags) - 1

    def _device(self, device: int) -> int:
        number = self._device_numbers.setdefault(device, len(self._devices))
        if number == len(self._devices):
            self._devices.append(device)
        return number

    def __len__(self) -> int:
        return len(self._flags)

    @overload
    def __getitem__(self, index: int) -> Walked: ...
    @overload
    def __getitem__(self, index: slice) -> list[Walked]: ...
    def __getitem__(self, index: int | slice) -> Walked | list[Walked]:
        if isinstance(index, slice):
            return [self._walked(number) for number in range(*index.indices(len(self)))]
        return self._walked(range(len(self))[index])

    def _walked(self, number: int) -> Walked:
        names = [self._name(number)]
        parent = self._parents[number]
        while parent >= 0:
            names.append(self._name(parent))
            parent = self._parents[parent]
        flags = self._flags[number]
        return Walked(
            path=b"/".join(reversed(names)),
            kind=EntryKind(flags & ~_EXECUTABLE),
            root=self._roots[-1 - parent],
            fingerprint=Fingerprint(
                self._devices[self._device_of[number]],
                self._inodes[number],
                self._sizes[number],
                self._mtimes[number],
                self._ctimes[number],
            ),
            executable=bool(flags & _EXECUTABLE),
            target=self._target(number),
        )

    def _name(self, number: int) -> bytes:
        start = self._starts[number]
        return bytes(self._texts[start : start + self._name_bytes[number]])

    def _target(self, number: int) -> bytes:
        start = self._starts[number] + self._name_bytes[number]
        end = self._starts[number + 1] if number + 1 < len(self) else len(self._texts)
        return bytes(self._texts[start:end])
