"""Closing sockets of ours, so that an error of it ends nothing else."""

from __future__ import annotations

__all__ = ("close_socket",)

import socket

import ae_core as ae


def close_socket(sock: socket.socket) -> None:
    """Close *sock*; an error is logged, since the socket is closed all the same.

    It would matter only for data that was written, and none was.
    """
    try:
        sock.close()
    except OSError as error:
        ae.log("warn", "closing a socket: %s", error, context="ae_socket")
