"""`import shoal` finds the installed package wherever Python is started, and costs nothing."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def python(code: str, folder: Path) -> str:
    """What `code` prints in a Python that is started in `folder`, which then comes first in its search path."""
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONSAFEPATH")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def test_a_clone_in_the_current_directory_does_not_hide_the_package(tmp_path: Path) -> None:
    """A namespace package would take the clone for a part of itself, and find the clone's node/ first."""
    (tmp_path / "shoal").symlink_to(ROOT)
    found = python("import shoal, shoal.node; print(shoal.__path__, shoal.node.__file__)", tmp_path)
    assert str(tmp_path) not in found
    assert python("import shoal, shoal.node; print(shoal.__path__, shoal.node.__file__)", ROOT) == found


def test_a_folder_with_other_code_does_not_hide_the_package(tmp_path: Path) -> None:
    (tmp_path / "shoal" / "node").mkdir(parents=True)
    (tmp_path / "shoal" / "node" / "__init__.py").write_text("raise SystemExit('the wrong shoal.node')")
    assert python("import shoal.node; print(shoal.node.open_node.__name__)", tmp_path) == "open_node"


def test_the_package_imports_nothing_by_itself(tmp_path: Path) -> None:
    code = "import sys; before = set(sys.modules); import shoal; print(sorted(set(sys.modules) - before))"
    assert python(code, tmp_path) == "['shoal']"


def test_a_client_loads_nothing_that_it_does_not_need(tmp_path: Path) -> None:
    """What a command waits for at each start is mostly the loading of modules."""
    heavy = ("h11", "xml.etree", "cryptography", "pydantic", "rich", "shoal.node.volunteer", "shoal.simulation")
    others = ("shoal.cli.commands.publish", "shoal.cli.commands.simulate")
    code = f"""
import shoal.cli.app, shoal.cli.runner, shoal.cli.progress, shoal.node, sys
shoal.cli.app.parse(["ls"])
print([name for name in {heavy + others} if name in sys.modules])
"""
    assert python(code, tmp_path) == "[]"


def test_every_package_is_installed() -> None:
    """They are named one by one, so that a checkout without working links cannot become a package without code."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        named = tomllib.load(file)["tool"]["setuptools"]["packages"]
    folders = ("cli", "dht", "doors", "erasure", "node", "simulation")
    found = [path.parent for folder in folders for path in (ROOT / folder).rglob("__init__.py")]
    assert sorted(named) == sorted(["shoal", *(".".join(("shoal", *path.relative_to(ROOT).parts)) for path in found)])
