"""Sphinx makes a site of the Markdown pages: `make docs`, then open build/site/index.html.

The pages are written for a code host and stay as they are there: their links and their order do
not depend on Sphinx. The source folder is the root of the repository.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

#: The menu: heading, and its pages. Every page of the repository is in it.
MENU = {
    "Use kpn": ["docs/install", "docs/guide", "docs/options", "docs/faq", "docs/scale", "docs/api"],
    "Research": [
        "docs/research",
        "weights/README",
        "docs/results",
        "benchmarks/README",
        "docs/log",
    ],
    "Project": ["CHANGELOG", "CONTRIBUTING"],
}

project = "kpn"
author = "the kpn authors"
root_doc = "README"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
include_patterns = ["*.md", "docs/*.md", "weights/*.md", "benchmarks/*.md"]

# Anchors of headings as code hosts make them.
myst_heading_anchors = 4

# Blocks of code without a language are commands; hosts leave them as they are.
highlight_language = "none"
smartquotes = False

html_theme = "furo"
html_title = "kpn"
html_copy_source = False
html_use_index = False
html_show_sourcelink = False
html_show_sphinx = False


def add_menu(app: Any, name: str, source: list[str]) -> None:
    """Append the menu to the start page; there is none in the file itself."""
    if name == root_doc:
        for heading, pages in MENU.items():
            source[0] += f"\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n"
            source[0] += "\n".join(pages) + "\n```\n"


def copy_start_page(app: Any, error: Exception | None) -> None:
    """Make the start page the one that a web server shows first."""
    if error is None:
        folder = Path(app.outdir)
        shutil.copyfile(folder / "README.html", folder / "index.html")


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("source-read", add_menu)
    app.connect("build-finished", copy_start_page)
