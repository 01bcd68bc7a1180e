"""Fetching a file: verified runs of segments from k holders, as a stream or into a target file.

A byte leaves this package only after it was checked against the manifest.
May import: holders and everything below it.
"""
