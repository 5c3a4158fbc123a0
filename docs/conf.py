"""How the site is built: ``hatch run docs:build``. Needs no network; warnings are errors."""

from __future__ import annotations

import builtins
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sphinx import addnodes
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.nodes import find_pending_xref_condition

HERE = Path(__file__).parent
with (HERE.parent / "pyproject.toml").open("rb") as settings:
    HOME = tomllib.load(settings)["tool"]["ae"]["home"]
sys.path.insert(0, str(HERE.parent / "tools"))
import public_names  # noqa: E402

project = "AnyEvent for Python"
author = "The AnyEvent for Python developers"
copyright = "The AnyEvent for Python developers, MIT licence"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx_copybutton",
    "sphinx_design",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
nitpicky = True

html_theme = "furo"
html_title = "AnyEvent for Python"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_last_updated_fmt = None

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
copybutton_exclude = ".linenos, .gp, .go"
suppress_warnings = [
    "ref.python",  # a parameter's name that several attributes have
    "toc.not_included",  # a page for those who find it in the repository
]

autodoc_member_order = "groupwise"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {
    "members": True,
    "show-inheritance": True,
    # what a public class has from a private one is its own; what Python's classes give is known
    "inherited-members": "object, BaseException, Exception, OSError, LookupError, TimeoutError, "
    "AssertionError, ValueError, KeyError, Enum, IntEnum, StrEnum, tuple, list, dict, str, int, "
    "Protocol, Generic, MutableMapping, Mapping, CancelledError, RLock",
}
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88

# With AE_DOCS_ONLINE=1 links lead to the documentation of Python and of the libraries, too.
intersphinx_mapping = (
    {
        "python": ("https://docs.python.org/3", None),
        "trio": ("https://trio.readthedocs.io/en/stable", None),
        "cryptography": ("https://cryptography.io/en/latest", None),
    }
    if os.environ.get("AE_DOCS_ONLINE")
    else {}
)


def write_reference(app: Any) -> None:
    """Write a page for each public module; what it says is in the docstrings."""
    folder = HERE / "reference" / "modules"
    folder.mkdir(parents=True, exist_ok=True)
    names = public_names.public_modules()
    for name in names:
        text = f"{name}\n{'=' * len(name)}\n\n.. automodule:: {name}\n   :members:\n"
        # autodoc finds what is said of a constant only in the file that it reads
        found = {each for _, each in ModuleAnalyzer.for_module(name).find_attr_docs()}
        for each in public_names.exports(name):
            short = each.path.rpartition(".")[2]
            if each.is_data and each.doc and short not in found:
                said = "".join(f"   {line}\n" for line in each.doc.splitlines())
                text += f"\n.. py:data:: {short}\n\n{said}"
        page = folder / f"{name}.rst"
        if not page.exists() or page.read_text("utf-8") != text:
            page.write_text(text, "utf-8")
    for page in folder.glob("*.rst"):
        if page.stem not in names:
            page.unlink()


def other_reference(app: Any, env: Any, node: Any, text: Any) -> Any:
    """Find what a docstring names without its package; leave as it is what nothing here documents.

    That are names that others document, where their documentation is not at hand; types in a
    signature, some of which are names for longer ones; private classes as bases; and short names
    in docstrings, unless ``AE_DOCS_STRICT`` is set. Names that begin with one of our packages must
    lead somewhere, and all names in pages.
    """
    if node.get("refdomain") != "py":
        return None
    shortened = find_pending_xref_condition(node, "resolved")
    if shortened is not None and shortened.children:
        text = shortened.children[0].deepcopy()
    target = str(node["reftarget"])
    around = list(parents(node))
    in_signature = any(isinstance(each, addnodes.desc_signature) for each in around)
    if target.startswith("ae_"):
        return text if in_signature or "._" in target else None
    own = str(node.get("py:module") or "").partition(".")[0]
    domain = env.get_domain("py")
    for package in dict.fromkeys((own, *public_names.PACKAGES)):
        found = domain.resolve_xref(
            env, node["refdoc"], app.builder, node["reftype"], f"{package}.{target}", node, text
        )
        if found is not None:
            return found
    if "." in target or hasattr(builtins, target) or target in sys.stdlib_module_names:
        return text
    in_docstring = any(isinstance(each, addnodes.desc) for each in around)
    strict = os.environ.get("AE_DOCS_STRICT")
    return text if in_signature or (in_docstring and not strict) else None


def parents(node: Any) -> Iterator[Any]:
    """Yield what *node* stands in."""
    while node.parent is not None:
        node = node.parent
        yield node


def lead_out_of_the_site(app: Any, name: str, content: list[str]) -> None:
    """Have links to files of the repository that are no pages lead to the repository."""
    folder = (HERE / name).parent

    def lead(found: re.Match[str]) -> str:
        target = (folder / found[1]).resolve()
        if target.is_relative_to(HERE):
            return found[0]
        kind = "tree" if target.is_dir() else "blob"
        return f"]({HOME}/source/{kind}/main/{target.relative_to(HERE.parent)})"

    content[0] = re.sub(r"\]\((\.\./[^)#\s]+)\)", lead, content[0])


GOOGLE = Config(napoleon_use_rtype=False, napoleon_use_ivar=True)


def read_sections(
    app: Any, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Read "Args:", "Returns:" and so on; in an attribute a colon is only a colon."""
    kind = "" if what in ("attribute", "data", "property") else what
    lines[:] = GoogleDocstring(lines, GOOGLE, app, kind, name, obj, options).lines()


def setup(app: Any) -> None:
    """Connect the hooks above."""
    app.connect("builder-inited", write_reference)
    app.connect("source-read", lead_out_of_the_site)
    app.connect("autodoc-process-docstring", read_sections)
    app.connect("missing-reference", other_reference, priority=900)
