"""Memory cards with bursts on them, for tests of whole batches."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
from command_line import kpn
from raw_files import BLACK, WHITE, scene

from kpn_cli.output import dng_tags, dng_writer

START = datetime(2026, 5, 6, 12, 0, 0)
SIZE = (64, 80)
#: So that the same burst gives the same bytes whenever it is written.
EPOCH = {**os.environ, "SOURCE_DATE_EPOCH": "1700000000", "OMP_NUM_THREADS": "1"}


def write_frame(
    path: Path,
    at: float,
    seed: int = 0,
    size: tuple[int, int] = SIZE,
    light: float | None = None,
    **changes,
):
    """Write a frame taken so many seconds after noon; `light` brightens the scene, up to white."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng((seed, int(1000 * at))).normal(0, 40, size)
    mosaic = np.clip(scene(*size) + noise, 0, 65535).astype(np.uint16)
    if light is not None:
        mosaic = BLACK + light * (scene(*size) - float(BLACK)) + noise
        mosaic = np.clip(np.rint(mosaic), 0, WHITE).astype(np.uint16)
    tags = dng_tags.DngTags(
        "RGGB",
        (BLACK,) * 4,
        WHITE,
        make="Canikon",
        model="X1",
        iso=800.0,
        exposure_time=0.01,
        captured=START + timedelta(seconds=at),
    )
    dng_writer.write_cfa_dng(path, mosaic, replace(tags, **changes))


def write_bursts(folder: Path, count: int, frames: int = 2, size: tuple[int, int] = SIZE) -> None:
    """Write bursts, ten seconds apart."""
    for number in range(count):
        for n in range(frames):
            at = 10 * number + 0.1 * n + 0.05
            write_frame(folder / f"IMG_{number:03d}{n}.dng", at, number, size)


def write_bracket(folder: Path, stops: Sequence[float], at: float = 0.0, **changes) -> list[Path]:
    """Write a bracket in which 0 EV is 1/100 s, and clips nothing."""
    paths = [folder / f"HDR_{n}.dng" for n in range(len(stops))]
    for n, (path, stop) in enumerate(zip(paths, stops, strict=True)):
        tags = {"exposure_time": 0.01 * 2.0**stop, "light": 2.0**stop} | changes
        write_frame(path, at + 0.2 * n + 0.05, **tags)
    return paths


def denoised(*arguments: object, code: int = 0) -> dict:
    result = kpn("denoise", *arguments, "--json")
    assert result.exit_code == code, result.output
    return json.loads(result.stdout)


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
