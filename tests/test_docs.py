"""Documents say what is so: links lead somewhere, options and commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from kpn_cli.cli.app import main

ROOT = Path(__file__).parents[1]
PAGES = sorted(ROOT.glob("*.md")) + sorted(
    page for folder in ("docs", "weights", "benchmarks") for page in (ROOT / folder).glob("*.md")
)
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

#: Options of programs that aren't ours.
OF_OTHERS = {"--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint", "--array"}


def anchors(page: Path) -> set[str]:
    """What headings of a page can be linked to, as GitHub makes it of them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@every_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        there = page.parent / path if path else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), target


@every_page
def test_options_exist(page):
    known = set(OF_OTHERS) | {"--help", "--version"}
    for command in main.commands.values():
        for option in command.params:
            known |= set(option.opts) if isinstance(option, click.Option) else set()
            known |= set(option.secondary_opts)
    written = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text("utf-8")))
    assert written <= known


@every_page
def test_commands_exist(page):
    text = page.read_text("utf-8")
    code = "\n".join(re.findall(r"```.*?```", text, re.DOTALL))
    named = re.findall(r"^(?:\$ )?kpn (\w+)", code, re.MULTILINE) + re.findall(r"`kpn (\w+)", text)
    assert set(named) <= set(main.commands)
    for script in re.findall(r"python ((?:benchmarks|docs)/\w+\.py)", text):
        assert (ROOT / script).exists()


@every_page
def test_modules_exist(page):
    """Files are named from the page's folder, the repository's root, or that of the package."""
    for name in re.findall(r"`([\w/-]+\.py)`", page.read_text("utf-8")):
        places = (page.parent, ROOT, ROOT / "kpn_cli")
        assert any((place / name).exists() for place in places), name
