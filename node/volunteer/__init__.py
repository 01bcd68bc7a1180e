"""What a node that keeps others' shares does: it answers peers, says how it does, and leaves in order.

`holder` answers requests, `serving` runs the server and the care of files.
May import: care and everything below it.
"""
