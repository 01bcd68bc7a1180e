"""A walk through a tree on disk, in steps: it can be cancelled between any two, and tells how far it is."""

from collections.abc import Sequence
from pathlib import Path

from shoal.node.environment import Environment
from shoal.node.folders.tree import Tree
from shoal.node.folders.walk import TreeWalk, WalkChoices
from shoal.node.results import OnProgress, Phase, Progress


async def walk(
    env: Environment, paths: Sequence[str | Path], choices: WalkChoices, on_progress: OnProgress | None = None
) -> Tree:
    """What is at these paths. Raises UsageError and LocalError, as `TreeWalk` does."""
    steps = await env.call(TreeWalk, paths, choices)
    try:
        while not await env.call(steps.advance):
            if on_progress is not None:
                on_progress(Progress(Phase.LISTING, done_files=steps.entries))
        return steps.tree
    finally:
        steps.close()
