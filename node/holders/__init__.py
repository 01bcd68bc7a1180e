"""The holders of a file and how a node learns of them: statements, announcements, surveys, the search.

The rules are pure; `search`, `known`, `announcing`, `everyone`, `relocation`, `renewal` and `deletion` ask peers.
May import: home, context, channel, store, and everything below them.
"""
