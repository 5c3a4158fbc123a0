"""Bytes that have arrived and bytes that are to be sent.

Imports no socket, no clock and no ``ae_core``.
"""
