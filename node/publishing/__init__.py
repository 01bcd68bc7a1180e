"""Publishing a file: read, seal and code it, send all shares in step, commit them, and tell the holders of each other.

Repairs and leaving nodes use the same lanes, recruiting and last steps (`lanes`, `recruit`, `rebuild`, `settling`).
May import: holders, fetching, and everything below them.
"""
