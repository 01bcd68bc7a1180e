"""What benchmarks/compare.py is made of: systems that are measured alike, and the tables that come out.

environments   each system in a virtual environment of its own
processes      starting and ending processes; what they cost, from /proc
rounds         publish, fetch, compare the bytes, again: the same for every system
shoal_network  Shoal (its library's side runs shoal_client.py)
tahoe          Tahoe-LAFS
torrent        libtorrent (both its sides run torrent_peer.py)
limits         what the machine allows, from costs that parts.py measures
results        what was measured, as plain values
report, tables from results to text
"""
