"""One side of a torrent, for torrent.py: makes and seeds one, or fetches it, over TCP alone and with nobody else.

python -P torrent_peer.py make FILE TORRENT     prints the seconds it took
python -P torrent_peer.py seed TORRENT FOLDER   prints the port, then serves until standard input ends
python -P torrent_peer.py fetch TORRENT FOLDER PORT
                                                prints the seconds it took, then waits until standard input ends
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import libtorrent  # in compare.py's runs it is in an environment of its own

POLL_S = 0.01


def settings() -> Any:
    """A session on loopback without any way to find others, and without its own transport over UDP (slower here)."""
    off = ("enable_dht", "enable_lsd", "enable_upnp", "enable_natpmp", "enable_outgoing_utp", "enable_incoming_utp")
    return dict.fromkeys(off, False) | {
        "listen_interfaces": "127.0.0.1:0",
        "allow_multiple_connections_per_ip": True,
        "alert_mask": libtorrent.alert_category.storage,
    }


def make(source: str, torrent: str) -> None:
    """Hash the file: all that publishing means here."""
    begun = time.perf_counter()
    files = libtorrent.file_storage()
    libtorrent.add_files(files, source)
    made = libtorrent.create_torrent(files)
    libtorrent.set_piece_hashes(made, str(Path(source).parent))
    Path(torrent).write_bytes(libtorrent.bencode(made.generate()))
    tell({"seconds": time.perf_counter() - begun})


def join(torrent: str, folder: str, *, is_seed: bool) -> tuple[Any, Any]:
    """A session with the torrent in it."""
    session = libtorrent.session(settings())
    parameters = libtorrent.load_torrent_file(torrent)
    parameters.save_path = folder
    if is_seed:
        parameters.flags |= libtorrent.torrent_flags.seed_mode
    parameters.flags &= ~(libtorrent.torrent_flags.auto_managed | libtorrent.torrent_flags.paused)
    return session, session.add_torrent(parameters)


def seed(torrent: str, folder: str) -> None:
    """Serve it."""
    session, _ = join(torrent, folder, is_seed=True)
    while not session.listen_port():
        time.sleep(POLL_S)
    tell({"port": session.listen_port()})
    sys.stdin.read()


def fetch(torrent: str, folder: str, port: str) -> None:
    """Get all of it from the one peer there is. The session's own start is part of it."""
    begun = time.perf_counter()
    session, handle = join(torrent, folder, is_seed=False)
    handle.connect_peer(("127.0.0.1", int(port)))
    while not handle.status().is_seeding:
        time.sleep(POLL_S)
    handle.flush_cache()  # it has all pieces, and writes some of them only now
    while not any(isinstance(alert, libtorrent.cache_flushed_alert) for alert in session.pop_alerts()):
        time.sleep(POLL_S)
    tell({"seconds": time.perf_counter() - begun})
    sys.stdin.read()


def tell(answer: dict[str, float]) -> None:
    """One line to whoever started us."""
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    {"make": make, "seed": seed, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])  # type: ignore[operator]
