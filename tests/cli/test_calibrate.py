"""`kpn calibrate`, and denoising with the measured noise."""

from __future__ import annotations

import json

import flat_frames
import numpy as np
import pytest
from command_line import assert_one_line, kpn


def test_a_camera_is_calibrated_and_denoised_with_exactly_its_noise(weights, tmp_path):
    flats = flat_frames.pairs(tmp_path, (400, 1600), seed=5)
    camera = tmp_path / "camera.json"
    measured = kpn("calibrate", *flats, "-o", camera)
    assert measured.exit_code == 0, measured.output
    assert measured.stdout.strip() == str(camera)
    assert "ISO 1600" in measured.stderr
    document = json.loads(camera.read_text())
    again = kpn("calibrate", *flats, "-o", tmp_path / "again.json", "--json")
    assert json.loads(again.stdout) == document

    def noise(iso: float) -> dict:
        light = flat_frames.flat(0.3, 60, 80)
        noisy = flat_frames.truth(iso).sample(light, np.random.default_rng(1))
        path = flat_frames.write(tmp_path / f"in_{iso}.dng", noisy, iso)
        run = kpn("denoise", path, "-o", tmp_path / "out", "--weights", weights, "--json",
                  "--noise", camera, "--format", "dng")  # fmt: skip
        assert run.exit_code == 0, run.output
        return json.loads(run.stdout)["bursts"][0]["noise"]

    for level in document["levels"]:
        found = noise(level["iso"])
        assert (found["source"], found["file"]) == ("given", str(camera))
        assert (found["shot"], found["read"]) == (level["shot"], level["read"])
        assert found["warning"] == ""
    low, high = (level["shot"][0] for level in document["levels"])
    assert noise(800)["shot"][0] == pytest.approx((low * high) ** 0.5)
    beyond = noise(3200)
    assert beyond["shot"][0] == pytest.approx(2 * high)
    assert "extrapolated" in beyond["warning"]


def test_a_calibration_of_another_camera_or_a_damaged_one_is_one_line(burst, tmp_path):
    flats = flat_frames.pairs(tmp_path, (400,))
    camera = tmp_path / "camera.json"
    assert kpn("calibrate", tmp_path, "-o", camera).exit_code == 0
    command = ["denoise", burst[0][0], "-o", tmp_path / "out", "--noise", camera]
    assert_one_line(kpn(*command), "IMG_0000.dng", "Maker Flat 1", "camera.json")
    camera.write_text("{")
    assert_one_line(kpn(*command), "camera.json", "kpn calibrate")
    failed = json.loads(kpn(*command, "--json").stdout)["failed"]
    assert "camera.json" in failed[0]["error"]
    assert not (tmp_path / "out").exists()
    assert_one_line(kpn("calibrate", *flats, "-o", flats[0]), flats[0].name, "input")
    assert_one_line(kpn("calibrate", *flats[:-1], "-o", camera), flats[-2].name, "no second frame")
    assert camera.read_text() == "{"
