"""The grammar of ``AE_LOG``: ``name=word,word:name=word``, and what the words do.

Parsing is free of effects; applying calls the methods of contexts. Nothing is evaluated,
and what is not understood is skipped, with a complaint that names it.
"""

from __future__ import annotations

__all__ = ("Word", "apply", "parse")

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from .._base.log import LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Context: TypeAlias = Any  # ``ae_core.logs.Context``, which stands above this file

# Specs are separated by ":" or white space, their words by ",". A backslash takes the meaning
# from any of these, so `log=file=C\:\\log.txt` names a file on a Windows drive.


class Word(NamedTuple):
    """One word of ``AE_LOG``."""

    spec: int  # the number of the spec it stands in
    name: str  # what stands before the "=", "" if there is none
    text: str
    position: int  # of its first character, counted from 1


def parse(text: str) -> list[Word]:
    """Split the value of ``AE_LOG`` into words.

    Example:
        >>> for word in parse("filter=warn,cap=note db.pool=+%f"):
        ...     print(word.spec, word.name, word.text, word.position)
        0 filter warn 8
        0 filter cap=note 13
        1 db.pool +%f 30
    """
    words: list[Word] = []
    spec, name, word, start = 0, "", "", 0

    def end_of_word() -> None:
        if word:
            words.append(Word(spec, name, word, start + 1))

    i = 0
    while i < len(text):
        char = text[i]
        i += 1
        if char == ":" or char.isspace():
            end_of_word()
            spec, name, word, start = spec + 1, "", "", i
        elif char == "," and name:
            end_of_word()
            word, start = "", i
        elif char == "=" and word and not name:
            name, word, start = word, "", i
        else:
            if char == "\\" and i < len(text):
                char = text[i]
                i += 1
            word += char
    end_of_word()
    return words


def apply(
    text: str, find: Callable[[str | None], Context], roots: Mapping[str, Context]
) -> list[str]:
    """Configure the contexts as *text* says; return a complaint for each word not understood.

    *find* returns the context of a module's name, a new one for None; *roots* are the contexts
    that have a word of their own.
    """
    names = _Names(find, roots)
    complaints: list[str] = []
    spec, mode = -1, "level"
    for word in parse(text):
        if word.spec != spec:
            spec, mode = word.spec, "level"
        try:
            mode = _obey(names.find(word.name), word.text, mode, names)
        except (ValueError, OSError):
            complaints.append(
                f"AE_LOG ({text}): not understood: {word.text!r} at position {word.position}"
            )
    return complaints


class _Names:
    """The contexts that the words of one text name."""

    def __init__(self, find: Callable[[str | None], Context], roots: Mapping[str, Context]) -> None:
        self._find = find
        self._roots = roots
        self._anonymous: dict[str, Context] = {}

    def find(self, name: str) -> Context:
        if name in self._roots:
            return self._roots[name]
        if name == "main":
            return self._find("__main__")
        if name.startswith("%") and len(name) > 1:
            if name not in self._anonymous:
                self._anonymous[name] = self._find(None)
                self._anonymous[name]._rename(name)
            return self._anonymous[name]
        # A dot at the end makes a module of a name that has a meaning here: "log." is module log.
        module = name.removesuffix(".")
        if not module or module == "%":
            raise ValueError(f"expected the name of a context, got {name!r}")
        return self._find(module)


def _obey(context: Context, word: str, mode: str, names: _Names) -> str:
    """Do what one word says. Return how level words are to be read from now on."""
    key, equals, value = word.partition("=")
    if word == "stderr":
        context.log_to_stderr()
    elif word == "nolog":
        context.log_callback(None)
    elif key == "file" and value:
        context.log_to_file(value)
    elif key == "path" and value:
        context.log_to_path(value)
    elif key == "syslog":
        context.log_to_syslog(value or "user")
    elif key == "cap" and equals:
        context.cap(value)
    elif word == "+":
        context.slaves([])
    elif word.startswith("+"):
        context.attach(names.find(word[1:]))
    elif word in ("off", "0"):
        context.level(0)
    elif word == "all":
        context.level("all")
    elif word == "level":
        context.level("all")
        return "level"
    elif word == "only":
        context.level("off")
        return "enable"
    elif word == "except":
        context.level("all")
        return "disable"
    elif word in LEVELS:
        getattr(context, mode)(word)
    else:
        raise ValueError(f"not a word of AE_LOG: {word!r}")
    return mode
