"""Doors: ways into Shoal for programs that do not speak Python, each a package of its own on top of `shoal.node`."""
