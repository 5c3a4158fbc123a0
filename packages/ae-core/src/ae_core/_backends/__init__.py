"""Adapters, one file per loop. A loop's library is imported only inside its own file."""
