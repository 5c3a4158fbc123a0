"""Check that every link inside the built site leads somewhere, anchors included.

    python tools/check_site.py [DIRECTORY]

Also that no page loads anything from elsewhere: the site works without a network, search included.
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page refers to, what it loads, and the anchors in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors.add(values.get("id", ""))
        if tag == "a":
            self.anchors.add(values.get("name", ""))
            self.links.append(values.get("href", ""))
        elif tag in ("img", "script", "source", "iframe"):
            self.loads.append(values.get("src", ""))
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "search"):
            self.loads.append(values.get("href", ""))


def complaints(folder: Path) -> list[str]:
    """Return what is wrong with the links of the site in *folder*."""
    folder = folder.resolve()
    pages = {path: Page(path.read_text("utf-8")) for path in sorted(folder.rglob("*.html"))}
    wrong = [] if pages else [f"{folder}: no pages"]
    for path, page in pages.items():
        where = path.relative_to(folder)
        wrong += [f"{where}: loads {url}" for url in page.loads if urlsplit(url).netloc]
        for url in (*page.links, *page.loads):
            parts = urlsplit(url)
            if parts.scheme or parts.netloc or not url:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                wrong.append(f"{where}: {url} leads nowhere")
                continue
            anchors = pages[target].anchors if target in pages else set()
            if parts.fragment and anchors and unquote(parts.fragment) not in anchors:
                wrong.append(f"{where}: {url}: no such anchor")
    return wrong


def main() -> int:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "build/site")
    wrong = complaints(folder)
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{folder}: {len(wrong)} complaints")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
