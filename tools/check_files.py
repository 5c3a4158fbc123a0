"""Check that text files are clean: no blanks at line ends, one newline at the end, valid TOML.

    python tools/check_files.py [FILE ...]

Without arguments every file that git knows is checked. Data files under ``data/`` are left alone.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path


def complaints(name: str) -> list[str]:
    """What is wrong with the file *name*; nothing is, if it is not text."""
    data = Path(name).read_bytes()
    if b"\0" in data or not data:
        return []
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return [f"{name}: not UTF-8"]
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            found.append(f"{name}:{number}: blanks (or a carriage return) at the end of the line")
    if not text.endswith("\n") or text.endswith("\n\n"):
        found.append(f"{name}: expected exactly one newline at the end")
    if name.endswith(".toml"):
        try:
            tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            found.append(f"{name}: {error}")
    return found


def main() -> int:
    listed = subprocess.run(("git", "ls-files"), check=True, text=True, stdout=-1).stdout
    names = sys.argv[1:] or listed.splitlines()
    texts = [name for name in names if "data" not in Path(name).parts and Path(name).is_file()]
    found = [text for name in texts for text in complaints(name)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
