"""`kpn synth`: data sets that are the same whoever makes them, and that other commands take."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import exifread
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from pictures import photo

from kpn_cli.burst.files import find_raws
from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError
from kpn_cli.evaluation import metrics
from kpn_cli.image import bayer
from kpn_cli.raw.reader import read_capture, read_info, read_planes
from kpn_cli.synthesis import dataset, protocol
from kpn_cli.synthesis.dataset import DatasetConfig, write_dataset
from kpn_cli.synthesis.photos import find_photos
from kpn_cli.synthesis.shards import ShardSource, find_shards


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    paths = []
    for number in range(3):
        paths.append(folder / f"photo_{number}.png")
        cv2.imwrite(str(paths[-1]), photo(number, 280, 300))
    return paths


def content(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def kpn(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module", params=["dng", "shards"])
def data(request, photos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "set"
    config = DatasetConfig(count=3, frames=3, format=request.param, seed=7)
    write_dataset(photos, folder, config)
    return folder, config


def test_the_same_seed_gives_the_same_bytes(data, photos, tmp_path):
    folder, config = data
    write_dataset(photos, tmp_path, config)
    assert content(tmp_path) == content(folder)


@pytest.mark.parametrize("form", ["dng", "shards"])
def test_workers_give_the_same_bytes(photos, tmp_path, monkeypatch, form):
    # More parts than one of shards: 128 bursts each are too many here.
    config = DatasetConfig(count=3 if form == "dng" else 130, frames=1, format=form, seed=7)
    for workers in (1, 2):
        write_dataset(photos, tmp_path / str(workers), config, workers=workers)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_another_seed_gives_other_bursts(data, photos, tmp_path):
    folder, config = data
    write_dataset(photos, tmp_path, DatasetConfig(3, 3, config.format, seed=8))
    ours, others = content(folder), content(tmp_path)
    assert set(ours) == set(others)
    assert all(ours[name] != others[name] for name in ours if "IMG" in name or ".tar" in name)


def test_an_interrupted_data_set_is_completed_and_finished_parts_are_kept(data, photos, tmp_path):
    folder, config = data

    class Interrupted(Exception):
        pass

    def interrupt(path):
        raise Interrupted

    with pytest.raises(Interrupted):
        write_dataset(photos, tmp_path, config, on_part=interrupt)
    (tmp_path / ".kpn-0123").mkdir()  # what a killed run leaves
    (tmp_path / ".kpn-0123" / "IMG_0000.dng").write_bytes(b"half")
    first = next(path for path in tmp_path.iterdir() if path.name[:5] in ("burst", "shard"))
    stamp = first.stat().st_mtime_ns
    write_dataset(photos, tmp_path, config)
    assert content(tmp_path) == content(folder)
    assert first.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("form", ["dng", "shards"])
def test_a_longer_set_begins_with_the_shorter_one(photos, tmp_path, form):
    for count in (2, 3):
        write_dataset(photos, tmp_path / "grown", DatasetConfig(count, 2, form, seed=1))
    write_dataset(photos, tmp_path / "whole", DatasetConfig(3, 2, form, seed=1))
    assert content(tmp_path / "grown") == content(tmp_path / "whole")
    with pytest.raises(KpnError, match="holds 3 bursts, more than --count 2"):
        write_dataset(photos, tmp_path / "grown", DatasetConfig(2, 2, form, seed=1))


def test_a_gain_is_the_protocol_s_in_shards_too(photos, tmp_path):
    write_dataset(photos, tmp_path, DatasetConfig(4, 1, "shards", gain="8"))
    for patch in ShardSource(find_shards([tmp_path])):
        assert patch.noise == protocol.noise_of_gain(8)


def test_pictures_of_a_data_set_are_not_taken_for_photos(photos, tmp_path):
    write_dataset(photos, tmp_path / "set", DatasetConfig(1, 1))
    (tmp_path / "photo.png").write_bytes(photos[0].read_bytes())
    assert find_photos([tmp_path]) == [tmp_path / "photo.png"]
    for inside in (tmp_path / "set", tmp_path / "set" / "burst_00000"):
        with pytest.raises(KpnError, match="bursts are no photos"):
            find_photos([inside])


def test_workers_end_when_their_parent_process_is_killed(photos, tmp_path):
    """Killed, it cannot tell them."""
    command = [
        Path(sys.executable).with_name("kpn"), "synth", *photos, "-o", tmp_path,
        "--count", "10000", "--workers", "2",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    while not list(tmp_path.glob("burst_*")):
        assert process.poll() is None
        time.sleep(0.1)
    process.kill()
    # They hold the other end of the pipe: it closes when the last of them has ended.
    assert process.communicate(timeout=60)[0] == b""


def test_a_folder_with_another_data_set_is_refused_and_left_unchanged(data, photos):
    folder, config = data
    before = content(folder)
    with pytest.raises(KpnError, match="holds a data set with other seed"):
        write_dataset(photos, folder, DatasetConfig(3, 3, config.format, seed=9))
    with pytest.raises(KpnError, match="other photos"):
        write_dataset(photos[:2], folder, config)
    assert content(folder) == before


def test_frames_have_the_tags_and_the_noise_of_a_camera(photos, tmp_path):
    config = DatasetConfig(count=6, frames=3, gain="2", seed=3)
    phases = set()
    for part in write_dataset(photos, tmp_path, config):
        infos = [read_info(path) for path in find_raws([part])]
        assert [info.path.name for info in infos] == [f"IMG_000{n}.dng" for n in range(3)]
        assert infos[0].captured < infos[1].captured < infos[2].captured
        profile, noise = infos[0].noise_profile, protocol.noise_of_gain(2)
        assert profile.shot == pytest.approx(noise.shot)
        assert profile.read == pytest.approx(noise.read, rel=1e-2)
        phases.add(infos[0].phase)
        about = json.loads((part / "truth.json").read_text())
        assert about["cfa"] == infos[0].phase
        truth = tifffile.imread(part / "truth.tif").astype(np.float64)
        truth = (truth - about["black"]) / (about["white"] - about["black"])
        planes = read_planes(infos[0])
        clean = bayer.pack(truth, about["cfa"])
        # The reference is its truth and the noise it says, but for a few defective samples.
        error = (planes - clean)[:, 8:-8, 8:-8]
        expected = about["shot"] * clean[:, 8:-8, 8:-8] + about["read"]
        squares = error**2 / expected
        assert np.mean(squares < 36) > 0.999
        assert np.mean(squares[squares < 36]) == pytest.approx(1, abs=0.05)
    assert len(phases) >= 2


def test_all_phases_hold_the_same_planes(photos, tmp_path):
    """Whatever the phase of the mosaic, its planes are the scene's R, G1, G2, B."""
    from datetime import datetime

    from kpn_cli.synthesis.camera import Camera, write_truth

    planes = np.random.default_rng(0).random((4, 32, 40))
    for phase in bayer.PHASES:
        path = tmp_path / f"{phase}.dng"
        write_truth(path, planes, Camera(phase), datetime(2026, 1, 1), "x")
        read = read_planes(read_info(path))
        # A mosaic that begins elsewhere in the cell lacks samples at the border only.
        inner = (slice(None), slice(1, -1), slice(1, -1))
        np.testing.assert_allclose(read[inner], planes[inner], atol=1e-4)


def test_synth_then_denoise_comes_closer_to_the_truth(photos, tmp_path):
    run = kpn("synth", *photos, "-o", tmp_path / "set", "--count", 1, "--gain", 2)
    assert run.exit_code == 0, run.output
    burst = tmp_path / "set" / "burst_00000"
    run = kpn("denoise", burst, "-o", tmp_path / "out", "--reference", "first", "--format", "dng")
    assert run.exit_code == 0, run.output
    about = json.loads((burst / "truth.json").read_text())
    truth = tifffile.imread(burst / "truth.tif").astype(np.float64)
    truth = (truth - about["black"]) / (about["white"] - about["black"])
    clean = bayer.pack(truth, about["cfa"]).astype(np.float32)
    noisy, denoised = (
        metrics.psnr(read_planes(read_info(path)), clean, about["white_level"])
        for path in (burst / "IMG_0000.dng", tmp_path / "out" / "IMG_0000_kpn.dng")
    )
    # The shipped network gains 11 dB and more on photos; these pictures are mostly texture.
    assert denoised > noisy + 4


def test_a_corrupt_photo_is_named_and_skipped(photos, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"\xff\xd8 no photo")
    run = kpn("synth", *photos, bad, "-o", tmp_path / "set", "--count", 1, "--frames", 1)
    assert run.exit_code == 0
    assert "bad.jpg: not a readable photo" in run.stderr
    assert run.stdout == f"{tmp_path / 'set'}\n"


def test_shards_train_a_network(photos, tmp_path):
    folder = tmp_path / "set"
    write_dataset(photos, folder, DatasetConfig(count=3, frames=2, format="shards"))
    run = kpn(
        "train", folder, "-o", tmp_path / "run", "--patches", 2, "--batch", 1,
        "--variant", "single", "--precision", "fp32", "--device", "cpu",
    )  # fmt: skip
    assert run.exit_code == 0, run.output
    assert (tmp_path / "run" / "last.safetensors").exists()


@pytest.fixture(scope="module")
def bracketed(photos, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("brackets") / "set"
    config = DatasetConfig(count=3, frames=4, gain="1", seed=1, ev=(-2.0, 0.0, 2.0))
    return write_dataset(photos, folder, config)


def truth_of(burst: Path) -> tuple[dict, np.ndarray]:
    """What is said of a burst, and its noiseless planes."""
    about = json.loads((burst / "truth.json").read_text())
    truth = tifffile.imread(burst / "truth.tif").astype(np.float64)
    truth = (truth - about["black"]) / (about["white"] - about["black"])
    return about, bayer.pack(truth, about["cfa"])


def test_frames_of_a_bracket_differ_in_exposure_time_and_in_nothing_else(bracketed):
    infos = [read_info(path) for path in find_raws([bracketed[0]])]
    times = [info.exposure_time / infos[0].exposure_time for info in infos]
    assert times == pytest.approx([1, 4, 0.25, 1], rel=1e-3)
    for value in ("iso", "f_number", "noise_profile", "white", "black"):
        assert len({getattr(info, value) for info in infos}) == 1, value
    starts = [info.captured for info in infos]
    for info, start, after in zip(infos, starts, starts[1:], strict=False):
        assert (after - start).total_seconds() > info.exposure_time


def test_frames_of_a_bracket_have_the_camera_s_bracketing_tags(bracketed):
    for path, ev in zip(find_raws([bracketed[0]]), (0, 2, -2, 0), strict=True):
        with path.open("rb") as stream:
            tags = exifread.process_file(stream, details=False)
        assert tags["EXIF ExposureMode"].values == [2]
        assert float(tags["EXIF ExposureBiasValue"].values[0]) == ev
        assert read_capture(path).bracketed


def test_frames_of_a_bracket_are_the_truth_in_their_exposure_clipped_at_white(
    photos, tmp_path, monkeypatch
):
    """With the brightness that the description says, which is not quite the one of the tags."""

    def draw(scenes, number, rng, count, colours, **other):
        rising = np.linspace(0, other["highlights"], 64 * 64, dtype=np.float32).reshape(64, 64)
        return np.broadcast_to(rising, (count, 4, 64, 64))

    monkeypatch.setattr(dataset, "draw_handheld", draw)
    config = DatasetConfig(count=3, frames=4, gain="1", seed=1, ev=(-2, 0, 2))
    for burst in write_dataset(photos, tmp_path, config):
        about, clean = truth_of(burst)
        for path, frame in zip(find_raws([burst]), about["frames"], strict=True):
            assert frame["file"] == path.name
            assert frame["brightness"] == pytest.approx(2 ** frame["ev"], rel=0.09)
            planes = read_planes(read_info(path))
            expected = clean * frame["brightness"]
            clipped, dark = expected > 1.3, expected < 0.7
            assert np.count_nonzero(planes[clipped] < 1) <= 0.01 * clipped.sum()
            error = (planes - expected)[:, 1:-1, 1:-1][dark[:, 1:-1, 1:-1]]
            assert abs(np.median(error)) < 0.002
            assert planes.max() == 1 or not clipped.any()


def test_the_truth_of_a_bracket_is_not_clipped(bracketed):
    brightest = {}
    for burst in bracketed:
        about, clean = truth_of(burst)
        brightest[about["highlights"]] = clean.max()
    assert max(brightest.values()) > 1.2
    assert max(brightest) > 2


def test_a_bracket_completes_only_a_data_set_of_the_same_exposures(bracketed, photos):
    folder = bracketed[0].parent
    same = DatasetConfig(count=3, frames=4, gain="1", seed=1, ev=(-2, 0, 2))
    assert write_dataset(photos, folder, same) == bracketed
    for ev in ((), (-3.0, 0.0, 3.0)):
        with pytest.raises(KpnError, match="holds a data set with other ev"):
            write_dataset(photos, folder, DatasetConfig(3, 4, gain="1", seed=1, ev=ev))


def test_equal_exposures_are_not_mentioned_in_a_data_set(data):
    folder, _ = data
    assert "ev" not in json.loads((folder / "dataset.json").read_text())


def test_exposures_that_are_no_bracket_are_wrong_usage(tmp_path):
    for text in ("x", "0", "-2,,2", "0,20"):
        run = kpn("synth", tmp_path, "-o", tmp_path / "out", "--ev", text)
        assert run.exit_code == 2, text
        assert "--ev" in run.stderr
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "wrong",
    [
        {"format": "zip"}, {"gain": "3"}, {"count": 0}, {"frames": 0}, {"ev": (0.0,)},
        {"ev": (0.0, 2.0), "format": "shards"},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(KpnError):
        DatasetConfig(**wrong)


@pytest.mark.parametrize("damaged", ["{", "[]", '{"count": "x"}'])
def test_a_damaged_description_of_the_set_is_refused(photos, tmp_path, damaged):
    (tmp_path / "dataset.json").write_text(damaged)
    with pytest.raises(KpnError, match=r"dataset\.json: damaged"):
        write_dataset(photos, tmp_path, DatasetConfig(1, 1))


@pytest.mark.parametrize("form", ["dng", "shards"])
def test_what_merely_has_the_name_of_a_part_is_refused_and_stays(form, photos, tmp_path):
    config = DatasetConfig(count=2, frames=1, format=form)
    part = config.part_path(tmp_path, config.part_count - 1)
    if form == "dng":
        part.mkdir()
        (part / "holiday.jpg").write_bytes(b"x")
    else:
        part.write_bytes(b"x")
    before = content(tmp_path)
    with pytest.raises(KpnError, match=f"{part.name}: has the name of a part"):
        write_dataset(photos, tmp_path, config)
    assert content(tmp_path) == before


def test_a_part_that_is_no_longer_whole_is_refused(photos, tmp_path):
    config = DatasetConfig(count=1, frames=2)
    (part,) = write_dataset(photos, tmp_path, config)
    (part / "IMG_0001.dng").unlink()
    with pytest.raises(KpnError, match=r"burst_00000: .* not whole; move it away"):
        write_dataset(photos, tmp_path, config)
