"""kpn runs on Linux, macOS and Windows: what one of them lacks has a guard or a counterpart.

Seen in the source and simulated here; the hosted workflow runs the tests on all three.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from dng_factory import write_dng

import kpn_cli

ROOT = Path(kpn_cli.__file__).parents[1]
FILES = sorted(
    path for folder in ("kpn_cli", "benchmarks", "runs") for path in (ROOT / folder).rglob("*.py")
)
TREES = {
    path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in FILES
}

#: Modules of the standard library that Windows lacks.
POSIX_MODULES = {
    *("crypt", "curses", "fcntl", "grp", "nis", "posix", "pty", "pwd", "readline", "resource"),
    *("spwd", "syslog", "termios", "tty"),
}
#: Modules that only Windows has.
WINDOWS_MODULES = {"msvcrt", "nt", "winreg", "winsound", "_winapi"}
#: Attributes that a system lacks, by module. https://docs.python.org/3/library/os.html
MISSING_SOMEWHERE = {
    "os": {
        *("chown", "confstr", "fchmod", "fchown", "fork", "forkpty", "getegid", "geteuid"),
        *("getgid", "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getresuid"),
        *(
            "getuid",
            "initgroups",
            "kill",
            "killpg",
            "lchown",
            "mkfifo",
            "mknod",
            "nice",
            "pathconf",
        ),
        *("pipe2", "posix_fadvise", "posix_fallocate", "pread", "pwrite", "readv"),
        *("register_at_fork", "sched_getaffinity", "sched_setaffinity", "sendfile", "setpriority"),
        *("setsid", "statvfs", "startfile", "sysconf", "uname", "wait", "wait3", "writev"),
        *("O_BINARY", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_SYNC"),
    },
    "signal": {
        *("SIGALRM", "SIGCHLD", "SIGCONT", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGSTOP"),
        *("SIGTSTP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGBREAK", "CTRL_C_EVENT"),
        *("alarm", "pause", "pthread_kill", "pthread_sigmask", "setitimer", "siginterrupt"),
        *("sigpending", "sigwait"),
    },
    "time": {"tzset", "clock_gettime", "pthread_getcpuclockid"},
    "threading": {"pthread_kill"},
    "subprocess": {"CREATE_NEW_PROCESS_GROUP", "CREATE_NO_WINDOW", "STARTUPINFO"},
    "socket": {"AF_UNIX"},
}
#: Where folders of one system are named: a file that other systems lack is an OSError there.
NAMES_FOLDERS_OF_LINUX = {"kpn_cli/system/control_groups.py", "kpn_cli/cli/version.py"}
#: A condition that tells the systems apart.
GUARD = re.compile(r"sys\.platform|os\.name|hasattr\(|_WINDOWS|fcntl is (not )?None")


class Guarded(ast.NodeVisitor):
    """Walks a tree and knows whether a node stands behind a guard."""

    def __init__(self, tree: ast.Module) -> None:
        self.unguarded: list[str] = []
        self._guards = 0
        self.visit(tree)

    def _visit_guarded(self, nodes: Iterator[ast.AST] | list, guarded: bool) -> None:
        self._guards += guarded
        for node in nodes:
            self.visit(node)
        self._guards -= guarded

    def visit_If(self, node: ast.If | ast.IfExp) -> None:
        self._visit_guarded(ast.iter_child_nodes(node), bool(GUARD.search(ast.unparse(node.test))))

    visit_IfExp = visit_If

    def visit_Try(self, node: ast.Try) -> None:
        caught = " ".join(ast.unparse(each.type) for each in node.handlers if each.type)
        self._visit_guarded(node.body, bool(re.search("ImportError|AttributeError", caught)))
        rest = [*node.handlers, *node.orelse, *node.finalbody]
        self._visit_guarded(rest, False)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._check(alias.name.partition(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if not node.level:
            self._check(str(node.module).partition(".")[0])
            for alias in node.names:
                self._check_attribute(str(node.module), alias.name)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._check_attribute(ast.unparse(node.value), node.attr)
        self.generic_visit(node)

    def _check(self, module: str) -> None:
        if module in POSIX_MODULES | WINDOWS_MODULES and not self._guards:
            self.unguarded.append(module)

    def _check_attribute(self, module: str, name: str) -> None:
        if name in MISSING_SOMEWHERE.get(module, ()) and not self._guards:
            self.unguarded.append(f"{module}.{name}")


CALLS = [
    (f"{name}:{node.lineno}", node, ast.unparse(node.func))
    for name, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, ast.Call)
]


def test_the_search_finds_what_it_looks_for():
    found = Guarded(
        ast.parse(
            "import fcntl, os\n"
            "from os import fork\n"
            "try:\n    import resource\nexcept ImportError:\n    os.getuid()\n"
            "if sys.platform != 'win32':\n    import pwd\n"
            "cores = os.sched_getaffinity(0) if hasattr(os, 'sched_getaffinity') else 1\n"
        )
    )
    assert found.unguarded == ["fcntl", "os.fork", "os.getuid"]


def test_what_a_system_lacks_stands_behind_a_guard():
    unguarded = {name: Guarded(tree).unguarded for name, tree in TREES.items()}
    assert {name: found for name, found in unguarded.items() if found} == {}


def test_tests_are_collected_on_every_system():
    imported = {
        f"{path.relative_to(ROOT).as_posix()}: {name}"
        for path in (ROOT / "tests").rglob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in Guarded(ast.Module([node], [])).unguarded
    }
    assert imported == set()


def test_no_folder_of_one_system_is_named():
    named = [
        f"{name}:{node.lineno}"
        for name, tree in TREES.items()
        if name not in NAMES_FOLDERS_OF_LINUX
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.match(r"/(dev|proc|sys|tmp|etc|usr|home|var)(/|$)", node.value)
    ]
    assert named == []


def test_text_files_have_an_encoding():
    """Windows's default is none that holds every name. https://peps.python.org/pep-0597/"""
    assert [place for place, call, _ in CALLS if lacks_encoding(call)] == []


def lacks_encoding(call: ast.Call) -> bool:
    if any(keyword.arg == "encoding" for keyword in call.keywords):
        return False
    is_method = isinstance(call.func, ast.Attribute)
    name = call.func.attr if is_method else ast.unparse(call.func)
    if name in ("read_text", "write_text"):
        return len(call.args) < ("read_text", "write_text").index(name) + 1
    texts = [str(each.value) for each in call.args if isinstance(each, ast.Constant)]
    modes = [text for text in texts if re.fullmatch("[rwax][bt+]*", text)]
    of_text = not any("b" in mode for mode in modes)
    return name == "open" and of_text and bool(modes or not is_method)


def test_processes_are_spawned_never_forked():
    """Windows cannot fork, and the threads of PyTorch and OpenCV do not survive it elsewhere."""
    forking = []
    for place, call, function in CALLS:
        module, _, name = function.rpartition(".")
        arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
        if name in ("get_context", "set_start_method"):
            if [ast.unparse(argument) for argument in arguments] != ["'spawn'"]:
                forking.append(place)
        elif name == "ProcessPoolExecutor":
            if "context" not in [ast.unparse(argument) for argument in arguments]:
                forking.append(place)
        elif name in ("Process", "Pool") and module != "psutil":
            forking.append(place)
    assert forking == []


def test_renames_replace_on_every_system():
    """`os.rename` and `Path.rename` fail on Windows if the target exists."""
    assert [place for place, _, function in CALLS if function.endswith(".rename")] == []


def test_float64_of_torch_stays_on_the_cpu():
    """The GPU of a Mac has none. `network.quantisation` works on the CPU alone."""
    doubles = [
        place
        for place, _, function in CALLS
        if function.endswith(".double") and not function.endswith(".cpu().double")
    ]
    assert {place.partition(":")[0] for place in doubles} <= {"kpn_cli/network/quantisation.py"}


def test_training_bursts_have_no_float64(scenes):
    from dataclasses import fields

    import torch

    from kpn_cli.synthesis.config import SynthConfig
    from kpn_cli.synthesis.patches import draw_batch

    for bracket in (0, 1):
        config = SynthConfig(cells=16, bracket=bracket)
        batch = draw_batch(scenes, (0, bracket), range(2), config)
        tensors = {field.name: getattr(batch, field.name) for field in fields(batch)}
        kinds = {name: each.dtype for name, each in tensors.items() if each is not None}
        assert set(kinds.values()) == {torch.float32}, kinds


WITHOUT_POSIX = """
import concurrent.futures, logging, os, random, secrets, signal, subprocess, sys, threading

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name in {"fcntl", "termios", "tty", "pty"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
for name in ("fcntl", "termios"):
    sys.modules.pop(name, None)
for name in ("sched_getaffinity", "register_at_fork", "statvfs", "getloadavg", "O_DIRECTORY"):
    if hasattr(os, name):
        delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "pthread_kill"):
    if hasattr(signal, name):
        delattr(signal, name)

from pathlib import Path
from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError
from kpn_cli.system import control_groups, files, memory, threads
from kpn_cli.raw.decoder_process import Decoder

assert files.fcntl is None
folder, photo = Path(sys.argv[1]), Path(sys.argv[2])
assert threads.usable_cores() >= 1 and memory.free_memory() > 0
with files.lock_folder(folder), files.atomic(folder / "a.txt") as temporary:
    temporary.write_bytes(b"new")
    files.remove_abandoned(folder)
    try:
        with files.lock_folder(folder):
            raise SystemExit("locked twice")
    except KpnError as error:
        assert "another kpn" in str(error)
with Decoder() as decoder:
    assert decoder.info(photo).height == 64
assert main  # it is imported without them too
"""


def test_raw_files_are_read_where_the_calls_of_posix_are_missing(tmp_path):
    photo = write_dng(tmp_path / "IMG_1.dng", np.full((64, 64), 500, np.uint16))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITHOUT_POSIX, tmp_path, photo],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.txt").read_bytes() == b"new"
