"""The version stands in one place."""

import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

import shoal
import shoal.node
from shoal.cli.main import run

PROJECT = Path(__file__).parent.parent / "pyproject.toml"


def test_one_version_for_the_package_the_library_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"shoal {shoal.__version__}\n"
    assert shoal.node.__version__ == shoal.node.VERSION == shoal.__version__ == version("shoal")


def test_the_project_file_names_none() -> None:
    project = tomllib.loads(PROJECT.read_text())
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "shoal.__version__"}
