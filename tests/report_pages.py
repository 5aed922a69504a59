"""Bursts and pages of reports, for their tests."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kpn_cli.batch import report
from kpn_cli.batch.report_pictures import BeforeAfter, Pictures
from kpn_cli.burst.frame import Frame
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise.selection import NoiseReport
from kpn_cli.pipeline.options import Options
from kpn_cli.pipeline.result import Result
from kpn_cli.raw.info import RawInfo

NOISE = NoiseModel.uniform(1e-3, 1e-5)


def picture(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), np.float64)


def info_of(height: int, width: int, **changes) -> RawInfo:
    info = RawInfo(
        path=Path("a.dng"), make="", model="", phase="RGGB", height=height, width=width,
        black=(0.0,) * 4, white=1.0, iso=None, exposure_time=None, f_number=None,
        focal_length=None, captured=None, orientation=1, white_balance=(1.0, 1.0, 1.0),
        color_matrix=None, noise_profile=None,
    )  # fmt: skip
    return replace(info, **changes)


def noisy(clean: np.ndarray) -> Frame:
    return Frame(torch.from_numpy(NOISE.sample(clean, np.random.default_rng(0))))


def small_pictures(seed: int = 0, crops: int = 2, side: int = 48) -> Pictures:
    """Pictures of a burst, for reports that nobody looks at."""
    rng = np.random.default_rng(seed)

    def jpeg() -> bytes:
        content = io.BytesIO()
        flat = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
        Image.fromarray(flat).save(content, "JPEG")
        return content.getvalue()

    pairs = [BeforeAfter(f"Crop {n}", (0, 0, side, side), jpeg(), jpeg()) for n in range(crops)]
    return Pictures((side, side), jpeg(), (side, side), pairs, 0.0)


def burst_result(folder: Path, number: int, name: str = "", **changes) -> Result:
    """The result of a burst whose DNG exists, though it holds nothing."""
    path = Path(f"{name}IMG_{number:05d}.dng")
    below = folder / f"{100 + number // 100}CANIK"
    output = below / f"{path.stem}_kpn.dng"
    below.mkdir(parents=True, exist_ok=True)
    output.touch()
    result = Result(
        path,
        [path, *(Path(f"IMG_{number:05d}_{n}.dng") for n in range(3))],
        {"dng": output},
        noise=NoiseReport("measured", NOISE, changes.pop("warning", "")),
        shifts=[(0, 0), *[(-4, 12)] * 3],
        agreement=[1.0, *[0.8] * 3],
        exposure=[1.0] * 4,
        noise_left=0.1,
        device="cpu",
        seconds=3.0,
        timings={"read": 1.0, "denoise": 2.0},
        fingerprint=number.to_bytes(16, "big"),
    )
    return replace(result, **changes)


def publish_report(
    folder: Path, results: Sequence[Result], pictures: Pictures | None = None, **facts
) -> Path:
    """Write the report of bursts; those that are skipped get no new section."""
    options = Options(folder, report=True)
    with report.collect_sections(options, len(results)) as sections:
        for number, result in enumerate(results):
            if not result.skipped:
                shown = pictures or small_pictures(number)
                sections.store(result, report.whole_section(result, shown, folder))
        return report.publish(
            options,
            results,
            facts.pop("failures", []),
            [sections.collected],
            planned=len(results),
            seconds=3.0,
            **facts,
        )
