"""One hostile machine against a network of real daemons: the attackers, and the rig that measures what they do.

`attacks/` has the attackers. Each is a small program on the project's own codecs. `rig` runs one against daemons that
the `shoal` command started, while an honest client publishes and fetches. `machines` says where all of them stand: on
loopback, or in network namespaces that the rig makes itself.
"""
