"""The order of the storeys: a module imports from its own storey and from those below it, never from above."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parent.parent

STOREYS = (  # from the ground up; what stands in one line may not know each other, packages apart
    ("shoal.values",),
    ("shoal.erasure", "shoal.dht"),
    (
        "shoal.node.errors",
        "shoal.node.durable",
        "shoal.node.formats",
        "shoal.node.results",
        "shoal.node.names",
        "shoal.node.doctor",
    ),
    ("shoal.node.fingerprints",),
    ("shoal.node.folders",),
    ("shoal.node.cipher", "shoal.node.store", "shoal.node.channel", "shoal.node.router"),
    ("shoal.node.nursery", "shoal.node.environment", "shoal.node.translate"),
    ("shoal.node.home",),
    ("shoal.node.context",),
    ("shoal.node.holders",),
    ("shoal.node.fetching",),
    ("shoal.node.publishing",),
    ("shoal.node.repairing",),
    ("shoal.node.care",),
    ("shoal.node.reach",),
    ("shoal.node.volunteer",),
    ("shoal.node.joining", "shoal.node.inviting"),
    ("shoal.node.node",),
    ("shoal.node.opening",),
    ("shoal.node",),
    ("shoal.simulation",),
    ("shoal.doors",),
    ("shoal.cli",),
)
ROOMS = {room: storey for storey, rooms in enumerate(STOREYS) for room in rooms}


def room_of(module: str) -> str:
    """The room with the longest name that `module` is in."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in ROOMS and (name != "shoal.node" or module == name):
            return name
    raise AssertionError(f"{module} stands on no storey: give it a place in STOREYS")


def modules() -> Iterator[tuple[str, Path]]:
    for folder in ("erasure", "dht", "node", "simulation", "doors", "cli"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(("shoal", *(part for part in parts if part != "__init__"))), path


def imported(path: Path, known: set[str]) -> Iterator[tuple[int, str]]:
    """Line and full name of every module of ours that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if name in known else base


def test_no_import_runs_up() -> None:
    known = {name for name, _ in modules()}
    wrong = []
    for name, path in modules():
        here = room_of(name)
        for line, target in imported(path, known):
            if not target.startswith("shoal."):
                continue
            there = room_of(target)
            if here != there and ROOMS[there] >= ROOMS[here]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {target}")
    assert wrong == []
