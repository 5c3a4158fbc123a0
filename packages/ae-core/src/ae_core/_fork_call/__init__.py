"""Calls in another process."""
