"""Fetch pages with httpx in a Tk window that stays alive meanwhile.

    python examples/tk_with_httpx.py [URL ...]

httpx is written for asyncio; the window's loop is Tk's. ``async_slot`` makes a command of a button
out of a coroutine function, and the request runs inside Tk's loop: no thread, no polling, and the
button that cancels it works at any time.

Needs httpx, ae-guests and a screen.
"""

from __future__ import annotations

__all__ = ("Window",)

import argparse
import asyncio
import tkinter
from tkinter import ttk
from typing import Any

import ae_core as ae
from ae_core.console import printable, run
from ae_guests import async_slot


class Window:
    """A list of addresses; what came of each stands beside it."""

    def __init__(self, root: tkinter.Tk, urls: list[str]) -> None:
        self.root = root
        self.fetching: ae.CondVar[None] | None = None
        root.title("httpx inside Tk")
        self.table = ttk.Treeview(root, columns=("status", "size"), height=max(4, len(urls)))
        for name, text in (("#0", "address"), ("status", "status"), ("size", "octets")):
            self.table.heading(name, text=text)
        for url in urls:
            self.table.insert("", "end", iid=url, text=url, values=("", ""))
        self.table.pack(fill="both", expand=True)
        ttk.Button(root, text="Fetch", command=self.fetch).pack(side="left")
        ttk.Button(root, text="Cancel", command=self.cancel).pack(side="left")
        self.clock = ttk.Label(root)
        self.clock.pack(side="right")
        self.ticks = 0
        self.heart = ae.timer(0, self.tick, interval=0.05)

    def tick(self) -> None:
        """Show that the window is alive: a timer of ours, on Tk's loop like all the rest."""
        self.ticks += 1
        self.clock["text"] = f"alive for {self.ticks / 20:.1f} s"

    def fetch(self) -> None:
        """Begin, unless it is under way."""
        if self.fetching is None or self.fetching.ready:
            self.fetching = self.fetch_all()

    def cancel(self) -> None:
        """End what is under way."""
        if self.fetching is not None:
            self.fetching.cancel()

    @async_slot
    async def fetch_all(self) -> None:
        """Ask for all pages at once."""
        import httpx

        async with httpx.AsyncClient(timeout=10) as client, asyncio.TaskGroup() as group:
            for url in self.table.get_children():
                group.create_task(self.fetch_one(client, url))

    async def fetch_one(self, client: Any, url: str) -> None:
        """Ask for one page and show what came of it."""
        import httpx

        self.table.item(url, values=("asking ...", ""))
        try:
            answer = await client.get(url)
        except httpx.HTTPError as error:
            self.table.item(url, values=(printable(f"{type(error).__name__}: {error}"), ""))
        except asyncio.CancelledError:
            self.table.item(url, values=("cancelled", ""))
            raise
        else:
            status = printable(f"{answer.status_code} {answer.reason_phrase}")
            self.table.item(url, values=(status, len(answer.content)))


def main() -> int:
    """Open the window."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("urls", nargs="*", default=["http://www.example.com/"], metavar="URL")
    options = parser.parse_args()
    root = tkinter.Tk()
    ae.use("tk")
    Window(root, options.urls)
    root.mainloop()
    return 0


if __name__ == "__main__":
    run("tk_with_httpx", main)
