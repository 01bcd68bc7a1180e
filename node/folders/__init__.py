"""Folders as one file: what an entry is, how an index of them is written and read, and trees on disk.

No network and no tasks. Format: docs/format.md, "Folders".
"""
