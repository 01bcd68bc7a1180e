"""Scripts that are no modules of any package, and the vectors that some of them write."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).parents[2]


def load_script(path: Path) -> ModuleType:
    """A script as a module, under a name that follows from its path."""
    name = "_".join(("shoal", *path.relative_to(ROOT).with_suffix("").parts))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def benchmark_script(name: str) -> ModuleType:
    """A script of benchmarks/ as a module."""
    return load_script(ROOT / "benchmarks" / f"{name}.py")


def load_vectors(folder: Path, name: str) -> Any:
    """A file of golden vectors below a folder of tests."""
    return json.loads((folder / "vectors" / f"{name}.json").read_text())
