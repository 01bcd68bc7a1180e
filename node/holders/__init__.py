"""Who holds a file, and how one learns it: statements, announcements, surveys, the search, and what holders tell others.

The rules are pure; `search`, `companions`, `everyone`, `relocation`, `renewal` and `deletion` ask peers.
May import: home, context, channel, store, and everything below them.
"""
