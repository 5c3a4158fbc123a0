"""One chat client, in a Tk window or, unchanged, in a terminal on asyncio.

    python irc_tk.py [--terminal] [--nick NICK] irc[s]://host[:port]/channel

Needs ae-irc, and ae-tls for ircs://. What is typed is said; /join, /part, /me, /nick, /msg, /names
and /quit do what they do elsewhere. The class Chat knows neither Tk nor asyncio: it is given a
function that shows a line, and is told what was typed.
"""

from __future__ import annotations

import argparse
import getpass
import sys
from collections.abc import Callable

import ae_core as ae
import ae_irc as irc
from ae_handle import Handle


class Chat:
    """A conversation: events become lines to show, typed lines become commands.

    Args:
        url, nick: Where, and as whom.
        show: Shows a line.
        ended: Called when there will be nothing more.
    """

    def __init__(
        self, url: str, nick: str, show: Callable[[str], object], ended: Callable[[], object]
    ) -> None:
        self.client = irc.Client(url, nick=nick)
        self.client.on(irc.Event, self.happened)
        self.show = show
        self.ended = ended
        self.target = ""

    def happened(self, client: irc.Client, event: irc.Event) -> None:
        match event:
            case irc.Text(kind="action", nick=nick, text=text, target=target):
                self.show(f"{target} * {nick} {text}")
            case irc.Text(nick=nick, text=text, target=target):
                self.show(f"{target} <{nick}> {text}")
            case irc.Joined(is_own=True, channel=channel):
                self.target = channel
            case irc.Listed(channel=channel):
                self.show(f"-- in {channel} with {len(client.channels[channel].members)} members")
            case irc.Joined(nick=nick, channel=channel):
                self.show(f"-- {nick} has come to {channel}")
            case irc.Left(nick=nick, channel=channel, reason=reason):
                self.show(f"-- {nick} has left {channel} {reason}")
            case irc.Quit(nick=nick, reason=reason):
                self.show(f"-- {nick} has quit: {reason}")
            case irc.NickChanged(old=old, new=new):
                self.show(f"-- {old} is now {new}")
            case irc.TopicChanged(channel=channel, topic=topic):
                self.show(f"-- {channel} is about: {topic}")
            case irc.Registered(nick=nick):
                self.show(f"-- connected as {nick}")
            case irc.Disconnected(error=error, delay=None):
                self.show(f"-- the end: {error}")
                self.ended()
            case irc.Disconnected(error=error, delay=delay):
                self.show(f"-- {error}; again in {delay:.0f} s")
            case irc.Other(is_refusal=True, text=text):
                self.show(f"-- {text}")

    def typed(self, line: str) -> None:
        """Do what was typed."""
        client = self.client
        command, _, rest = line.partition(" ") if line.startswith("/") else ("", "", line)
        word, _, text = rest.partition(" ")
        try:
            match command:
                case "" if rest and self.target:
                    client.say(self.target, rest)
                case "/me" if rest and self.target:
                    client.action(self.target, rest)
                case "/msg" if text:
                    client.say(word, text)
                case "/join" if word:
                    client.join(word, text or None).on_ready(self.joined)
                case "/part":
                    client.part(word or self.target)
                case "/nick" if word:
                    client.send("NICK", word)
                case "/names" if self.target in client.channels:
                    self.show("-- " + " ".join(client.channels[self.target].members))
                case "/quit":
                    client.quit(rest)
                case _ if rest or command:
                    self.show(f"-- what is {line!r}?")
        except (ValueError, irc.IrcError) as error:
            self.show(f"-- {error}")

    def joined(self, outcome: ae.CondVar[irc.Channel]) -> None:
        if outcome.error is not None:
            self.show(f"-- {outcome.error}")


def in_a_window(url: str, nick: str) -> None:
    """Run it in Tk's main loop."""
    import tkinter

    window = tkinter.Tk()
    window.title(url)
    ae.use("tk", root=window)
    lines = tkinter.Text(window, state="disabled", width=90, height=24, wrap="word")
    entry = tkinter.Entry(window)
    lines.pack(fill="both", expand=True)
    entry.pack(fill="x")
    entry.focus()

    def show(line: str) -> None:
        lines["state"] = "normal"
        lines.insert("end", line + "\n")
        lines["state"] = "disabled"
        lines.see("end")

    chat = Chat(url, nick, show, window.destroy)

    def typed(event: object) -> None:
        chat.typed(entry.get())
        entry.delete(0, "end")

    entry.bind("<Return>", typed)
    window.protocol("WM_DELETE_WINDOW", chat.client.quit)
    window.mainloop()


def in_a_terminal(url: str, nick: str) -> None:
    """Run it in asyncio, with lines from the standard input."""
    import asyncio

    async def main() -> None:
        over = asyncio.Event()
        chat = Chat(url, nick, lambda line: print(line, flush=True), over.set)
        keyboard = Handle(
            sys.stdin.buffer,
            on_eof=lambda handle: chat.client.quit(),
            on_error=lambda handle, error: chat.client.quit(),
        )
        keyboard.read_each("line", lambda handle, line: chat.typed(line.decode(errors="replace")))
        await over.wait()

    asyncio.run(main())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("url", help="such as irc://localhost/ae")
    parser.add_argument("--nick", default=getpass.getuser())
    parser.add_argument("--terminal", action="store_true", help="no window")
    options = parser.parse_args()
    try:
        (in_a_terminal if options.terminal else in_a_window)(options.url, options.nick)
    except ValueError as error:
        print(f"irc_tk: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
