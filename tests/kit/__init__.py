"""What several test modules need, written once: worlds with a file in them, lies, stores, networks, scripts.

Test modules import it as `kit`. A helper that only one module needs stays in that module.
"""
