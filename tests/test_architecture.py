"""The folder listing is the flow of the data, and imports point one way."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import kpn_cli

ROOT = Path(kpn_cli.__file__).parents[1]
PACKAGE = Path(kpn_cli.__file__).parent

#: A folder imports only from folders before it, and from the modules of `BELOW`.
FOLDERS = [
    "system",
    "image",
    "tiff",
    "raw",
    "burst",
    "defects",
    "align",
    "noise",
    "network",
    "merge",
    "output",
    "pipeline",
    "batch",
    "inspection",
    "synthesis",
    "evaluation",
    "training",
    "cli",
]
#: Modules at the top that every folder may use, each those before it.
BELOW = ["choices", "errors"]
#: The public API, at the top too, which no folder uses; and the last folder that it uses.
API, LAST_OF_API = "api", "pipeline"
#: What using a network must not need.
TRAINING = {"synthesis", "evaluation", "training"}

FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.name != "__init__.py")
every_module = pytest.mark.parametrize(
    "path", FILES, ids=lambda path: str(path.relative_to(PACKAGE).with_suffix(""))
)
every_folder = pytest.mark.parametrize("folder", FOLDERS)


def module_of(path: Path) -> tuple[str, ...]:
    """Where a file stands in the package: ("align", "warp"), ("errors",)."""
    return path.relative_to(PACKAGE).with_suffix("").parts


MODULES = {module_of(path): path for path in FILES}


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


class Imports(ast.NodeVisitor):
    """Modules that a file imports: our own, and the first parts of the others' names.

    What only type checkers import is left out. `from ..image import bayer` is the module
    `image.bayer`, `from ..image.bayer import pack` too, `from .. import __version__` is none.
    """

    def __init__(self, path: Path) -> None:
        self.package = path.relative_to(PACKAGE.parent).parent.parts
        self.own: set[tuple[str, ...]] = set()
        self.others: set[str] = set()
        self.visit(tree_of(path))

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(tuple(alias.name.split(".")))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        above = self.package[: len(self.package) - node.level + 1] if node.level else ()
        base = (*above, *(node.module.split(".") if node.module else ()))
        for alias in node.names:
            self._add((*base, alias.name))

    def _add(self, parts: tuple[str, ...]) -> None:
        if parts[0] != "kpn_cli":
            self.others.add(parts[0])
        elif parts[1:] in MODULES:
            self.own.add(parts[1:])
        elif parts[1:-1] in MODULES:
            self.own.add(parts[1:-1])
        else:
            # A name of the package itself, such as its version.
            assert len(parts) == 2, f"{'.'.join(parts)}: no such module"


IMPORTS = {module: Imports(path) for module, path in MODULES.items()}


def public_definitions(node, inside=""):
    """Public classes, functions and methods, with their dotted names."""
    for child in node.body:
        named = isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if named and not child.name.startswith("_"):
            yield inside + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child, f"{inside}{child.name}.")


def reached_from(starts: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    """Modules that are imported by some, or by what these import."""
    reached, ahead = set(), list(starts)
    while ahead:
        module = ahead.pop()
        if module not in reached:
            reached.add(module)
            ahead.extend(IMPORTS[module].own)
    return reached


# --- the folders and their order ------------------------------------------------------


def test_every_module_is_in_a_folder_of_the_order():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert sorted(folders) == sorted(FOLDERS)
    at_the_top = {module[0] for module in MODULES if len(module) == 1}
    assert at_the_top <= {*BELOW, API, "__main__"}
    assert {len(module) for module in MODULES} <= {1, 2}


@every_module
def test_imports_point_back_along_the_order(path):
    module = module_of(path)
    if module == ("__main__",):
        return
    if module == (API,):
        allowed = [*BELOW, *FOLDERS[: FOLDERS.index(LAST_OF_API) + 1]]
    elif len(module) == 1:
        allowed = BELOW[: BELOW.index(module[0])]
    else:
        allowed = [*BELOW, *FOLDERS[: FOLDERS.index(module[0]) + 1]]
    wrong = {".".join(own) for own in IMPORTS[module].own if own[0] not in allowed}
    assert not wrong


@every_folder
def test_files_of_a_folder_are_in_no_circle(folder):
    left = {module for module in MODULES if module[0] == folder}
    while left:
        free = {module for module in left if not IMPORTS[module].own & left}
        assert free, sorted(".".join(module) for module in left)
        left -= free


@every_folder
def test_a_folder_only_says_what_it_is_for(folder):
    """So that to import one module brings no other: `kpn --help` needs no torch."""
    tree = tree_of(PACKAGE / folder / "__init__.py")
    assert ast.get_docstring(tree)
    assert len(tree.body) == 1


def test_the_package_has_a_map_of_the_folders_in_their_order():
    assert re.findall(r"^    (\w+)  +\S", kpn_cli.__doc__, re.MULTILINE) == FOLDERS


def test_the_wheel_has_every_folder():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    packages = re.search(r"^packages = \[(.*?)\]", text, re.MULTILINE | re.DOTALL)[1]
    expected = ["kpn_cli", *(f"kpn_cli.{folder}" for folder in FOLDERS), "kpn_weights"]
    assert re.findall(r'"([\w.]+)"', packages) == expected


@pytest.mark.parametrize("folder", ["pipeline", "batch", "inspection", API])
def test_using_a_network_needs_nothing_of_training(folder):
    reached = reached_from({module for module in MODULES if module[0] == folder})
    assert not {module[0] for module in reached} & {*TRAINING, "cli"}


# --- every module ---------------------------------------------------------------------


@every_module
def test_only_the_command_line_prints_and_draws(path):
    if module_of(path)[0] == "cli":
        return
    prints = [
        node.lineno
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not prints
    assert not IMPORTS[module_of(path)].others & {"click", "rich"}


@every_module
def test_nothing_is_pickled_or_executed(path):
    others = IMPORTS[module_of(path)].others
    assert not others & {"pickle", "marshal", "shelve", "joblib"}
    calls = {
        ast.unparse(node.func) for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)
    }
    assert not calls & {"eval", "exec", "torch.load", "torch.save", "np.load"}


@every_module
def test_everything_public_has_a_docstring(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree)
    # The forward of a module of torch says what its class does.
    bare = [
        name
        for name, node in public_definitions(tree)
        if not ast.get_docstring(node) and not name.endswith(".forward")
    ]
    assert not bare


@every_module
def test_input_is_not_checked_with_assert(path):
    """Assertions vanish under `python -O`, and their message is not for users."""
    assert not [node.lineno for node in ast.walk(tree_of(path)) if isinstance(node, ast.Assert)]
