"""The protocol of a handle without its stream: what is read, what is written, in which order.

Imports no socket, no clock and no ``ae_core``: tested with plain bytes.
"""
