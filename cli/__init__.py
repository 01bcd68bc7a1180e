"""Placeholder docstring, replaced with the package's public names."""
