"""`kpn demo` compares noisy frame, result and ground truth."""

from __future__ import annotations

from pathlib import Path

from command_line import kpn

from kpn_cli.evaluation import metrics
from kpn_cli.raw.reader import read_info, read_planes


def test_the_demo_denoises_its_burst_and_writes_the_comparison(tmp_path, weights):
    result = kpn("demo", "-o", tmp_path / "demo", "--weights", weights)
    assert result.exit_code == 0, result.output
    picture = tmp_path / "demo" / "before_after_truth.png"
    assert result.stdout.strip().splitlines()[-1] == str(picture)
    assert picture.stat().st_size > 100_000
    before, after, truth = (
        read_planes(read_info(tmp_path / "demo" / name))
        for name in (
            Path("burst") / "IMG_0000.dng",
            Path("denoised") / "IMG_0000_kpn.dng",
            "burst_truth.dng",
        )
    )
    assert metrics.psnr(after, truth, 1.0) > metrics.psnr(before, truth, 1.0) + 3
