"""Closing sockets of ours, so that an error of it ends nothing else."""

from __future__ import annotations

__all__ = ("close_socket",)

import socket

import ae_core as ae


def close_socket(sock: socket.socket) -> None:
    """Close *sock*; an error is logged: the socket is closed all the same, and nobody waits for it.

    Only who has written something could want to know, and that is not us.
    """
    try:
        sock.close()
    except OSError as error:
        ae.log("warn", "closing a socket: %s", error, context="ae_socket")
