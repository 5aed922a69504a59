"""No file can crash it, hang it or make it lie: damaged and hostile raws, each in a child.

The child is a fork that has limits on time and memory, and decodes by itself instead of in
`decoder_process.Decoder`'s process, so that a crash is seen here.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from dng_factory import write_dng
from raw_files import nef, rich_dng, scene

SHARED = Path(__file__).parents[2] / "shared" / "raw"
COUNT = 400
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits as Linux has them")
SECONDS, BYTES = 10, 1 << 30

#: Forks a child for each file: both commands, its own limits, its output in a file.
SERVER = f"""
import os, resource, signal, sys, traceback
from pathlib import Path
import kpn_cli.batch.read_ahead, kpn_cli.batch.run, kpn_cli.raw.decoder_process
from kpn_cli.image import bayer
from kpn_cli.raw import reader
from kpn_cli.cli.app import main

class Here:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def close(self): pass
    capture = staticmethod(reader.read_capture)
    info = staticmethod(reader.read_info)
    planes = staticmethod(kpn_cli.pipeline.loading.read_packed)
    camera_notes = staticmethod(kpn_cli.raw.full_exif.read_camera_notes)

kpn_cli.raw.decoder_process.Decoder = kpn_cli.raw.decoder_process.Decoder = Here
weights, good, *files = sys.argv[1:]

def run(arguments):
    try:
        main(arguments)
    except SystemExit as end:
        return end.code or 0
    except BaseException:
        traceback.print_exc()
        return 99

def child(file, out):
    signal.alarm({SECONDS})
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    limit = used + {BYTES} + 40 * os.path.getsize(file)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    log = os.open(out + ".log", os.O_CREAT | os.O_WRONLY, 0o666)
    os.dup2(log, 1), os.dup2(log, 2)
    told = run(["info", file])
    how = ["--weights", weights, "--format", "dng,srgb", "--no-cache"]
    done = run(["denoise", file, "-o", out, *how])
    sys.stdout.flush(), sys.stderr.flush()
    os._exit(10 * told + done if max(told, done) < 9 else 99)

# What is only loaded at its first use is not to be loaded in each child.
assert run(["denoise", good, "-o", good + ".out", "--weights", weights, "--json"]) == 0
print(flush=True)
for file in files:
    pid = os.fork()
    if pid == 0:
        child(file, file + ".out")
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

#: Values that break what adds or multiplies without looking.
ABSURD = (
    0,
    1,
    2,
    3,
    7,
    8,
    255,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x10000,
    0x7FFFFFFF,
    0xFFFFFFFE,
    0xFFFFFFFF,
)


def sources(folder: Path) -> list[bytes]:
    """Small raws of all kinds: both byte orders, nested trees, tiles, tables, a NEF."""
    mosaic = scene(96, 128)
    files = [folder / f"source{n}" for n in range(5)]
    rich_dng(files[0], mosaic, "<")
    rich_dng(files[1], mosaic, ">")
    nef(files[2], mosaic)
    write_dng(files[3], mosaic // 16, noise_profile=(1e-3, 1e-5))
    table = np.arange(1024, dtype=np.uint16)
    write_dng(files[4], mosaic // 16, linearization=table, active_area=(3, 5, 91, 121))
    return [path.read_bytes() for path in files]


def entries(data: bytes) -> list[int]:
    """Places of what looks like the entries of directories, wherever in a TIFF they are."""
    order = "<" if data[:2] == b"II" else ">"
    found = []
    for at in range(0, len(data) - 12, 2):
        tag, kind, count = struct.unpack_from(order + "HHI", data, at)
        if 254 <= tag <= 52600 and 1 <= kind <= 13 and 0 < count < 5000:
            found.append(at)
    return found


def mutated(data: bytes, places: list[int], rng: np.random.Generator) -> bytes:
    """Damage a file as a bad card, or bad will, does."""
    changed = bytearray(data)
    order = "<" if data[:2] == b"II" else ">"
    kind = rng.integers(6)
    if kind == 0:  # cut off
        return data[: rng.integers(len(data))]
    if kind == 1:  # flipped bytes, anywhere
        for at in rng.integers(0, len(data), rng.integers(1, 40)):
            changed[at] ^= 1 << rng.integers(8)
    elif kind == 2:  # flipped bytes in the directories
        for at in rng.choice(places, rng.integers(1, 8)):
            changed[at + rng.integers(12)] = rng.integers(256)
    elif kind == 3:  # absurd counts, sizes and offsets
        for at in rng.choice(places, rng.integers(1, 4)):
            value = ABSURD[rng.integers(len(ABSURD))]
            field = (2, "H") if rng.random() < 0.2 else ((4, "I"), (8, "I"))[rng.integers(2)]
            mask = 0xFFFF if field[1] == "H" else 0xFFFFFFFF
            struct.pack_into(order + field[1], changed, at + field[0], value & mask)
    elif kind == 4:  # directories that lead to themselves, or into pixels
        for at in rng.choice(places, rng.integers(1, 6)):
            target = rng.choice(places) - 2 if rng.random() < 0.7 else rng.integers(len(data))
            struct.pack_into(order + "I", changed, at + 8, int(max(target, 0)))
    else:  # a piece of another place
        length = int(rng.integers(16, 4096))
        source, target = rng.integers(0, len(data) - length, 2)
        changed[target : target + length] = data[source : source + length]
    return bytes(changed)


def tried(files: list[Path], weights: Path) -> list[int]:
    """Return the exit code of each file's child: ten times that of info, and of denoise."""
    good = files[0].with_name("good.dng")
    rich_dng(good, scene(96, 128))
    command = [sys.executable, "-c", SERVER, weights, good, *files]
    # One thread: those of OpenMP would not be there in the forks.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, env=environment)
    assert run.returncode == 0, run.stderr
    return [int(line) for line in run.stdout.partition("\n\n")[2].split()]


def check(files: list[Path], codes: list[int]) -> None:
    """Every one has ended in success or in clean errors, and left whole files or none."""
    for path, code in zip(files, codes, strict=True):
        log = Path(f"{path}.out.log").read_text(errors="replace")
        assert code in (0, 1, 11), f"{path.name}: {code}\n{log}"
        assert "Traceback" not in log
        assert "kpn has failed" not in log, f"{path.name}: {log}"
        made = list(Path(f"{path}.out").glob("*")) if Path(f"{path}.out").exists() else []
        assert len(made) == (0 if code else 2), f"{path.name}: {code} {made}"
        if code:
            assert "kpn: " in log, path.name


@pytest.mark.parametrize("part", range(4))
def test_mutated_raws_end_in_success_or_a_clean_error(tmp_path, weights, part):
    rng = np.random.default_rng(part)
    found = [(data, entries(data)) for data in sources(tmp_path)]
    files = []
    for number in range(COUNT // 4):
        data, places = found[number % len(found)]
        files.append(tmp_path / f"mutant_{number:03d}.{'nef' if number % 5 == 2 else 'dng'}")
        files[-1].write_bytes(mutated(data, places, rng))
    codes = tried(files, weights)
    check(files, codes)
    counts = Counter(codes)
    # The damage is neither so small that nothing is refused nor so large that all is.
    assert min(counts[0], counts[11]) > COUNT // 40, counts
    print(json.dumps(counts))


@pytest.mark.skipif(not SHARED.exists(), reason="../shared is not there")
def test_bad_raws_met_in_the_wild_are_refused(tmp_path, weights):
    files = []
    for path in sorted((SHARED / "bad").iterdir()):
        files.append(tmp_path / path.name)
        files[-1].write_bytes(path.read_bytes())
    codes = tried(files, weights)
    check(files, codes)
    assert set(codes) == {11}
