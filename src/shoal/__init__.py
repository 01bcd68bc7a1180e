"""Shoal: encrypted storage carried by volunteers. The library is `shoal.node`, the command is `shoal.cli`.

The folders beside this file are links to those at the top of the repository; `values` is used by all of them. This file
makes `shoal` a regular package: Python then prefers it to any folder named `shoal` in the current directory, such as a
clone. It imports nothing.
"""

__version__ = "0.1.0"  # here alone: pyproject.toml, `shoal --version` and `shoal.node.__version__` take it from here
