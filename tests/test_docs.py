"""The documents match the program: files, links, commands, options and help texts exist."""

from __future__ import annotations

import re
import runpy
import shlex
from pathlib import Path

import click
import pytest
import yaml
from click.testing import CliRunner

import kpn_cli
from kpn_cli.cli.app import main

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
OPTIONS_PAGE = ROOT / "docs" / "options.md"
PAGES = sorted(ROOT.glob("*.md")) + sorted(
    page for folder in ("docs", "weights", "benchmarks") for page in (ROOT / folder).glob("*.md")
)
#: The changelog may name what no longer exists.
CURRENT_PAGES = [page for page in PAGES if page.name != "CHANGELOG.md"]
TEXTS = {page: page.read_text("utf-8") for page in PAGES}
#: Command, and the spellings of one of its options: ("denoise", ("-o", "--output")).
OPTIONS = [
    (name, tuple(spellings))
    for name, command in sorted(main.commands.items())
    for option in command.params
    if isinstance(option, click.Option)
    for spellings in (option.opts, option.secondary_opts)
    if spellings
]
#: Options of other programs: torchrun, sbatch, ruff; pip, pipx, uv, twine.
FOREIGN_OPTIONS = {
    *("--against", "--nproc-per-node", "--nnodes", "--rdzv-backend", "--rdzv-endpoint"),
    "--array",
    *("--memory-limit", "--nthreads", "--nworkers", "--scheduler-file"),
    "--check",
    *("--extra-index-url", "--force", "--index-url", "--pip-args", "--strict", "--torch-backend"),
    *("--upgrade", "--user"),
}


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


every_page = pytest.mark.parametrize("page", PAGES, ids=page_name)
every_current_page = pytest.mark.parametrize("page", CURRENT_PAGES, ids=page_name)


def without_code(text: str) -> str:
    """A page without its fenced code, where `#` starts a comment and not a heading."""
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def code_in(text: str) -> str:
    return "\n".join(re.findall(r"```.*?```", text, re.DOTALL))


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes from the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", without_code(page.read_text("utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def mentions(text: str, words: str) -> bool:
    """Whether a text has these words, not as a part of longer ones."""
    return re.search(rf"(?<![\w-]){re.escape(words)}(?![\w-])", text) is not None


# --- files and links ------------------------------------------------------------------


@every_page
def test_links_resolve(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = page.parent / path if path else page
        assert linked.exists(), target
        assert not anchor or anchor in anchors(linked), target


@every_current_page
def test_python_files_exist(page):
    """They are named from the page's folder, the root of the repository, or the package."""
    for name in re.findall(r"(?<![\w./-])[\w/-]+\.py\b", TEXTS[page]):
        folders = (page.parent, ROOT, ROOT / "kpn_cli")
        assert any((folder / name).is_file() for folder in folders), name


@every_current_page
def test_folders_exist(page):
    for name in re.findall(r"`((?:kpn_cli|tests|docs|benchmarks|weights)/[\w/]*)`", TEXTS[page]):
        assert (ROOT / name).is_dir(), name


# --- commands and options -------------------------------------------------------------


@every_current_page
def test_named_commands_exist(page):
    text = TEXTS[page]
    named = re.findall(r"^(?:\$ )?kpn (\w+)", code_in(text), re.MULTILINE)
    named += re.findall(r"`kpn (\w+)", text)
    assert set(named) <= set(main.commands)


@every_current_page
def test_named_options_exist(page):
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", TEXTS[page]))
    known = {spelling for _, spellings in OPTIONS for spelling in spellings}
    assert named <= known | FOREIGN_OPTIONS | {"--help", "--version"}


@pytest.mark.parametrize(
    ("command", "spellings"), OPTIONS, ids=[f"{name} {names[-1]}" for name, names in OPTIONS]
)
def test_every_option_is_documented(command, spellings):
    """On a page that names its command too."""
    assert any(
        mentions(TEXTS[page], f"kpn {command}")
        and any(mentions(TEXTS[page], spelling) for spelling in spellings)
        for page in CURRENT_PAGES
    )


@pytest.mark.parametrize("command", sorted(main.commands))
def test_options_by_example_has_a_row_for_every_option_of_the_command(command):
    """And for no other one: each row has the option, a sentence on its use, and an example."""
    section = re.search(rf"^## kpn {command}$(.*?)(?=^## |\Z)", TEXTS[OPTIONS_PAGE], re.M | re.S)[1]
    rows = re.findall(r"^\| (`-.*?) \| (.*) \| (.*) \|$", section, re.MULTILINE)
    listed = [spelling for first, _, _ in rows for spelling in re.findall(r"`(-.*?)`", first)]
    spellings = [spelling for name, names in OPTIONS if name == command for spelling in names]
    assert sorted(listed) == sorted(spellings)
    for option, use, example in rows:
        assert use[0].isupper() and use.endswith("."), option
        assert example, option


@pytest.mark.parametrize("command", sorted(main.commands))
def test_examples_of_options_are_understood(command):
    """Click parses each example; nothing is read or run."""
    section = re.search(rf"^## kpn {command}$(.*?)(?=^## |\Z)", TEXTS[OPTIONS_PAGE], re.M | re.S)[1]
    lines = re.findall(r"^kpn (.*)$", code_in(section), re.MULTILINE)
    for example in re.findall(r"^\| `-.*\| `(.*?)` \|$", section, re.MULTILINE):
        words = example.removeprefix(f"kpn {command} ")
        lines.append(f"{command} {words}")
    assert lines
    known = main.commands[command]
    for line in lines:
        name, *words = shlex.split(line)
        assert name == command
        context = click.Context(known, parent=click.Context(main, **main.context_settings))
        known.make_parser(context).parse_args(words)  # raises click.UsageError


@every_current_page
def test_help_in_a_page_is_that_of_the_program(page):
    """A block of code that starts with `$ kpn COMMAND --help` has all of its output."""
    for command, text in re.findall(
        r"```console\n\$ kpn (?:(\w+) )?--help\n(.*?)```", TEXTS[page], re.DOTALL
    ):
        words = [command, "--help"] if command else ["--help"]
        result = CliRunner().invoke(main, words, prog_name="kpn", terminal_width=78)
        assert result.exit_code == 0
        assert text.strip() == result.output.strip()


def test_help_that_is_out_of_date_is_replaced():
    update = runpy.run_path(str(ROOT / "docs" / "update_help.py"))["update"]
    stale = "```console\n$ kpn info --help\nOld help.\n```\n"
    assert "Usage: kpn info" in update(stale)
    assert "Old help." not in update(stale)
    assert update(TEXTS[ROOT / "docs" / "guide.md"]) == TEXTS[ROOT / "docs" / "guide.md"]


def test_the_guide_has_the_help_of_denoise():
    assert "```console\n$ kpn denoise --help\n" in TEXTS[ROOT / "docs" / "guide.md"]


# --- single pages ---------------------------------------------------------------------


def test_the_readme_starts_with_a_picture_and_two_commands():
    start = "\n".join(TEXTS[README].splitlines()[:40])
    picture = re.search(r"!\[[^]]+\]\((docs/img/\w+\.webp)\)", start)
    assert picture and (ROOT / picture[1]).is_file()
    block = re.search(r"```\n(.*?)```", start[picture.end() :], re.DOTALL)[1]
    assert len(block.splitlines()) == 2
    assert "kpn denoise" in block


def test_every_command_is_in_the_table_of_the_readme():
    named = re.findall(r"^\| `kpn (\w+)` \|", TEXTS[README], re.MULTILINE)
    assert sorted(named) == sorted(main.commands)


def test_the_readme_links_every_page():
    linked = set(re.findall(r"\]\(([^)#\s]+\.md)", TEXTS[README]))
    others = {page_name(page) for page in PAGES} - {"README.md", "docs/results.md"}
    assert others <= linked


def test_every_page_is_in_the_menu_of_the_site():
    menu = runpy.run_path(str(ROOT / "docs" / "conf.py"))["MENU"]
    listed = [f"{page}.md" for pages in menu.values() for page in pages]
    assert sorted([*listed, "README.md"]) == sorted(page_name(page) for page in PAGES)


def test_every_question_is_in_the_list_of_questions():
    """In the same order, under the same heading; and its answer has a link."""
    start, *sections = re.split(r"^## ", TEXTS[ROOT / "docs" / "faq.md"], flags=re.MULTILINE)
    listed = re.findall(r"^(?:\*\*|- \[)(.*?)(?:\*\*|\])", start, re.MULTILINE)
    asked = []
    for section in sections:
        heading, *answers = re.split(r"^### ", section, flags=re.MULTILINE)
        asked.append(heading.strip())
        for answer in answers:
            question, _, body = answer.partition("\n")
            asked.append(question)
            assert "](" in body, question
    assert listed == asked


def test_the_changelog_has_this_version():
    latest = re.search(r"^## \[([\d.]+)\] - (.*)", TEXTS[ROOT / "CHANGELOG.md"], re.MULTILINE)
    assert latest[1] == kpn_cli.__version__.removesuffix(".dev0")
    # A clone between releases says so.
    assert kpn_cli.__version__.endswith(".dev0") == (latest[2] == "unreleased")


# --- the checks before a commit -------------------------------------------------------


def test_hooks_run_the_commands_of_make_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))
    (repository,) = config["repos"]
    assert repository["repo"] == "local"  # nothing is downloaded
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["always_run"] and not hook["pass_filenames"]
    makefile = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    assert [hook["entry"] for hook in repository["hooks"]] == commands
    assert re.search(r"^test: lint$", makefile, re.MULTILINE)
