"""What the command line asks for of folders: which paths become one, and what is left out of it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from shoal.cli.exits import BadUsageError, CommandError
from shoal.cli.output import Output, visible
from shoal.values import dataclass

if TYPE_CHECKING:
    from shoal.node import Node, OnProgress, Tree, WalkChoices

SYMLINKS = ("store", "skip", "follow")  # as `WalkChoices` has them; to import it here would slow every command down


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """The options of `publish` that say what a folder has in it, as they were typed."""

    exclude: tuple[str, ...] = ()
    exclude_from: tuple[str, ...] = ()
    gitignore: bool = False
    symlinks: str = SYMLINKS[0]
    one_file_system: bool = False
    skip_unreadable: bool = False

    def check(self) -> None:
        """BadUsageError for a value that cannot be."""
        if self.symlinks not in SYMLINKS:
            raise BadUsageError(f"--symlinks: {visible(self.symlinks)!r} is none of {', '.join(SYMLINKS)}.")
        if not all(self.exclude_from) or any("\0" in name for name in self.exclude_from):
            raise BadUsageError("--exclude-from: the path is empty or contains a NUL character.")

    def choices(self) -> "WalkChoices":
        """The same for the library. The patterns of files come first, so what was typed is stronger."""
        from shoal.node import Symlinks, WalkChoices
        from shoal.node.folders.exclusion import MAX_PATTERN_FILE_BYTES, patterns_of_file

        patterns: list[str | bytes] = []
        for name in self.exclude_from:
            try:
                with open(name, "rb") as file:
                    text = file.read(MAX_PATTERN_FILE_BYTES + 1)
            except OSError as error:
                raise CommandError(f"Cannot read {visible(name)}: {error.strerror}.") from error
            patterns += patterns_of_file(text, name)
        return WalkChoices(
            exclude=(*patterns, *self.exclude),
            gitignore=self.gitignore,
            symlinks=Symlinks(self.symlinks),
            one_file_system=self.one_file_system,
            skip_unreadable=self.skip_unreadable,
        )


def is_one_file(paths: Sequence[str]) -> bool:
    """Whether this is published as a file, and not as a folder. A single path that is nothing yet is one too."""
    return len(paths) == 1 and not Path(paths[0]).is_dir()


async def walk_tree(
    node: "Node", paths: Sequence[str], selection: FolderOptions, name: str | None, on_progress: "OnProgress"
) -> "Tree":
    """What is at these paths. BadUsageError where the folder of them would have no name."""
    tree = await node.walk(paths, selection.choices(), on_progress=on_progress)
    if tree.name is None and name is None:
        raise BadUsageError(
            "The paths are in different folders. Say how the folder of them is called with --name NAME."
        )
    return tree


def tell_skipped(output: Output, tree: "Tree") -> None:
    """Say of each thing that was left out why it is not in the folder."""
    for skipped in tree.skipped:
        output.complain(f"Left out: {skipped}")
        output.status(event="skipped", path=os.fsdecode(skipped.path), reason=skipped.reason)
