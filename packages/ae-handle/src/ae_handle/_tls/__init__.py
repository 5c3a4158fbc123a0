"""TLS without a stream: a session of any engine, and where engines come from.

Imports no socket, no clock and no ``ae_core``.
"""
