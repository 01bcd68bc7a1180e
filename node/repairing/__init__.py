"""Looking at a file's shares and making lost ones again: audit, check, and repair.

An audit asks each holder for one random block; a repair reads and proves every share that it builds on.
May import: publishing, fetching, holders, and everything below them.
"""
