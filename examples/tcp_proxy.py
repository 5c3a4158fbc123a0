"""Pass on TCP connections: whoever connects here talks to the target.

    python examples/tcp_proxy.py PORT TARGET-HOST TARGET-PORT

``serve`` keeps the clients, and ``relay`` joins each with a connection to the target: both
directions, half-closed connections, no more in memory than the slower side can take, and an end of
either side is the end of both. What it adds to a bare relay is a limit on silence.
"""

from __future__ import annotations

__all__ = ("proxy",)

import argparse

import ae_core as ae
from ae_core.console import run
from ae_handle import Handle, Served, relay, serve
from ae_socket import format_host_port


def proxy(
    host: str | None, port: str | int, target: tuple[str, str | int], timeout: float = 3600.0
) -> Served:
    """Return a server that passes on each connection to *target*."""

    def joined(client: Handle) -> ae.CondVar[tuple[int, int]]:
        return relay(client, Handle(connect=target, timeout=timeout))

    return serve(host, port, joined, timeout=timeout)


async def _main(port: str, host: str, target: str) -> None:
    async with proxy(None, port, (host, target)) as server:
        addresses = [format_host_port(*address) for address in server.addresses]
        print("listening on", *addresses, flush=True)
        ended: ae.CondVar[None] = ae.CondVar()
        with ae.signal("INT", ended.send), ae.signal("TERM", ended.send):
            await ended


def main() -> int:
    """Pass on connections until somebody asks to stop."""
    parser = argparse.ArgumentParser(description="Pass on TCP connections.")
    parser.add_argument("port", help="where to listen, on every address")
    parser.add_argument("host", metavar="TARGET-HOST", help="whom to connect to ...")
    parser.add_argument("target", metavar="TARGET-PORT", help="... and where")
    options = parser.parse_args()
    ae.run(_main(options.port, options.host, options.target))
    return 0


if __name__ == "__main__":
    run("tcp_proxy", main)
