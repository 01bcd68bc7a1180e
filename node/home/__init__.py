"""What a home keeps on disk: settings, network, contacts, the ledger, receipts, and the running daemon's address.

Written so that a crash leaves the old file or the new one whole.
May import: store, channel, and what stands beside `node/home/` in `node/` below `context`.
"""
