"""The web door: Shoal as a page in a browser, on this machine alone.

    async with open_door(node, network) as door:
        print(door.note.url())

From a connection to the node: `listening` -> `http` -> `guard` -> `door` -> `api`, or `content` on the second listener.
docs/web.md describes the API and what guards it.
"""

from shoal.doors.web.door import DEFAULT_PORT, Door, open_door
from shoal.doors.web.note import DoorNote, read_door_note, write_opener

__all__ = ["DEFAULT_PORT", "Door", "DoorNote", "open_door", "read_door_note", "write_opener"]
