"""`kpn calibrate`, and denoising with the measured noise."""

from __future__ import annotations

import json
from pathlib import Path

import flat_frames
import numpy as np
import pytest
from command_line import assert_one_line, kpn

from kpn_cli.raw.reader import read_info, read_planes


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


def test_defects_are_found_in_flats_told_listed_and_repaired(averaging, tmp_path):
    """Hot pixels glow with the exposure time; dark frames show them."""
    rng = np.random.default_rng(3)
    hot, dead = (0, 20, 30), (2, 41, 50)

    def shot(name: str, light: float, seconds: float) -> Path:
        planes = flat_frames.flat(light, 80, 100)
        planes[hot] += 0.1 * seconds
        planes[dead] *= 0.1
        noisy = flat_frames.truth(800).sample(planes, rng)
        return flat_frames.write(tmp_path / name, noisy, 800, seconds)

    exposures = [(0.02, 0.01), (0.2, 0.02), (0.6, 0.03), (0.0, 1.0)]
    flats = [shot(f"{n}{t}.dng", *each) for n, each in enumerate(exposures) for t in "ab"]
    camera = tmp_path / "camera.json"
    run = kpn("calibrate", *flats, "-o", camera)
    assert run.exit_code == 0, run.output
    assert "defects     2 pixels" in run.stderr
    listed = json.loads(camera.read_text())["defects"]
    assert listed == {"height": 159, "width": 200, "rows": [39, 82], "columns": [60, 100]}
    photo = shot("photo.dng", 0.1, 0.5)
    run = kpn("denoise", photo, "-o", tmp_path / "out", "--noise", camera, "--format", "dng",
              "--weights", averaging, "--json")  # fmt: skip
    (result,) = json.loads(run.stdout)["bursts"]
    assert result["defects"]["listed"] == 2
    out = read_planes(read_info(result["outputs"]["dng"]))
    for place in (hot, dead):
        usual = float(flat_frames.flat(0.1, 80, 100)[place])
        assert out[place] == pytest.approx(usual, abs=4 * (6e-6 * 8 * usual) ** 0.5)


def test_flats_that_tell_nothing_about_defects_are_told(tmp_path):
    """A scene stands still, but is no even surface."""
    rng = np.random.default_rng(4)
    texture = rng.uniform(0.02, 0.9, (4, 80, 100)).astype(np.float32)
    texture[:, ::2] = 0.4
    flats = []
    for turn in range(2):
        for light in (0.05, 0.3, 0.8):
            noisy = flat_frames.truth(800).sample(light * texture, rng)
            path = tmp_path / f"{light}{turn}.dng"
            flats.append(flat_frames.write(path, noisy, 800, light))
    run = kpn("calibrate", *flats, "-o", tmp_path / "camera.json")
    assert run.exit_code == 0, run.output
    assert "no list of defects" in run.stderr
    assert "defects" not in json.loads((tmp_path / "camera.json").read_text())


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
    other = tmp_path / "other.json"
    assert_one_line(kpn("calibrate", *flats[:-1], "-o", other), flats[-2].name, "no second frame")
    assert not other.exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("other.dng", "suffix of a raw photo"),
        ("new.CR3", "suffix of a raw photo"),
        ("{flat}.xmp", "sidecar of an input"),
        ("{flat}.dng.XMP", "sidecar of an input"),
        ("notes.json", "no calibration of kpn"),
        ("picture.tif", "no calibration of kpn"),
    ],
)
def test_calibrate_replaces_no_photo_sidecar_or_other_file(name, words, tmp_path):
    flat = tmp_path / "F000.dng"
    flat.write_bytes(b"never read")
    output = tmp_path / name.format(flat="F000")
    new = name == "new.CR3"
    if not new:
        output.write_text('{"mine": 1}')
    assert_one_line(kpn("calibrate", flat, "-o", output), output.name, words)
    assert not output.exists() if new else output.read_text() == '{"mine": 1}'
