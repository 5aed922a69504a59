"""The folder listing is the flow of the data, and imports point one way."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import kpn_cli

FOLDER = Path(kpn_cli.__file__).parent

#: A module imports only from modules before it.
ORDER = [
    *("choices", "errors"),
    *(
        "bayer",
        "orientation",
        "noise",
        "noise_estimate",
        "tiff",
        "tiff_tree",
        "metadata",
        "exif",
        "sequence",
        "raw_checks",
        "raw",
    ),
    *("align", "tiles"),
    *("srgb", "icc", "write"),
    *("dng_pictures", "dng", "opcodes", "dng_copy", "dng_result", "rendering", "develop"),
    *("features", "mixing", "network", "merge", "strength", "device", "weights", "world"),
    *(
        "burst",
        "calibration",
        "flats",
        "frame",
        "sharpness",
        "lineup",
        "understatement",
        "greens",
        "guard",
        "merger",
        "denoiser",
    ),
    *(
        "options",
        "noise_choice",
        "result",
        "outputs",
        "loading",
        "pipeline",
        "decoder",
        "grouping",
        "plan",
    ),
    *("crops", "markup", "report_pictures", "report_burst", "report_page", "report"),
    *("batch", "jobs"),
    *("maps", "looks", "places", "inspection"),
    *("drawing", "panels", "place_figures", "map_figures", "page"),
    *(
        "photos",
        "protocol",
        "synth_config",
        "motion",
        "exposures",
        "strength_target",
        "sensor",
        "synth",
        "shards",
    ),
    *("handheld", "dataset"),
    *("losses", "train_config", "validation", "run", "board", "train"),
    *("classical", "evaluate", "battery"),
    *("demo", "startup", "console", "cli_options", "cli_inspect", "cli_research", "cli"),
    "__main__",
]

#: What using a network must not need.
TRAINING = set(ORDER[ORDER.index("photos") : ORDER.index("demo")])
TALKATIVE = {"click", "rich"}
FILES = sorted(path for path in FOLDER.glob("*.py") if path.stem != "__init__")
every_module = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


class Imports(ast.NodeVisitor):
    """Names of imported modules: our own, and the first parts of the others'."""

    def __init__(self, path):
        self.own, self.others = set(), set()
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node):
        for alias in node.names:
            self._add(alias.name)

    def visit_ImportFrom(self, node):
        if node.level == 0:
            self._add(node.module)
        elif node.module:
            self.own.add(node.module.partition(".")[0])
        else:
            # `from . import x`: a module, or a name of the package itself.
            self.own |= {alias.name for alias in node.names if not alias.name.startswith("__")}

    def _add(self, name):
        first, _, rest = name.partition(".")
        if first == "kpn_cli":
            self.own.add(rest.partition(".")[0])
        else:
            self.others.add(first)


def public_definitions(node, inside=""):
    """Public classes, functions and methods, with their dotted names."""
    for child in node.body:
        named = isinstance(child, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        if named and not child.name.startswith("_"):
            yield inside + child.name, child
            if isinstance(child, ast.ClassDef):
                yield from public_definitions(child, f"{inside}{child.name}.")


def test_every_module_has_its_place_in_the_order():
    assert sorted(path.stem for path in FILES) == sorted(ORDER)


@every_module
def test_imports_point_back_along_the_order(path):
    before = ORDER[: ORDER.index(path.stem)]
    assert Imports(path).own <= set(before)


@pytest.mark.parametrize("name", ["pipeline", "page"])
def test_using_a_network_needs_nothing_of_training(name):
    reached, ahead = set(), [name]
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead.extend(Imports(FOLDER / f"{name}.py").own)
    assert not reached & TRAINING
    assert not reached & {"demo", "console", "cli"}


@every_module
def test_only_the_command_line_prints_and_draws(path):
    if path.stem in ("cli", "cli_inspect", "cli_options", "cli_research", "console"):
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    prints = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not prints
    assert not Imports(path).others & TALKATIVE


@every_module
def test_nothing_is_pickled_or_executed(path):
    assert not Imports(path).others & {"pickle", "marshal", "shelve", "joblib"}
    calls = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    assert not calls & {"eval", "exec", "torch.load", "torch.save", "np.load"}


@every_module
def test_everything_public_has_a_docstring(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
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
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
