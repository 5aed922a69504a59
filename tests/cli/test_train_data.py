"""`kpn train` tells what it trains on, and refuses what is not what it looks like."""

from __future__ import annotations

import json
import re
import sys

import cv2
import pytest
from command_line import assert_one_line, kpn
from pictures import photo

from kpn_cli.cli import train_data
from kpn_cli.synthesis.dataset import DatasetConfig, write_dataset
from kpn_cli.training.config import TrainConfig


def load(*paths, val=None, patches=500):
    return train_data.load_data(paths, val, TrainConfig(patches=patches))


def warnings(*paths, val=None):
    return [line for line in load(*paths, val=val).lines if line.startswith("warning: ")]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Three photos, as PNG files."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(3):
        cv2.imwrite(str(folder / f"{number}.png"), photo(number, 276, 280))
    return folder


@pytest.fixture(scope="module")
def shards(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards") / "set"
    write_dataset(sorted(pictures.iterdir()), folder, DatasetConfig(129, 1, "shards"))
    return folder


def copy_of(source, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(source.read_bytes())
    return path


def test_the_number_of_photos_is_told(pictures):
    loaded = load(pictures, val=pictures / "0.png")
    assert len(loaded.source.scenes) == 3
    assert loaded.lines[0] == "training: 500 bursts drawn from 3 photos (--patches)"
    assert loaded.lines[-1].startswith("validation: 1 photo; PSNR")


def test_copies_are_named_whatever_their_names_and_formats(pictures, tmp_path):
    copy_of(pictures / "0.png", tmp_path / "a.png")
    copy_of(pictures / "1.png", tmp_path / "b.png")
    cv2.imwrite(str(tmp_path / "sub.bmp"), cv2.imread(str(pictures / "0.png")))
    (line,) = warnings(tmp_path)
    assert line.startswith("warning: 1 training photo with the pixels of another")
    assert "a.png = " in line
    assert "sub.bmp" in line
    assert "b.png" not in line


def test_validation_photos_among_the_training_photos_are_named(pictures, tmp_path):
    copy_of(pictures / "2.png", tmp_path / "known.png")
    cv2.imwrite(str(tmp_path / "other.png"), photo(9, 276, 280))
    (line,) = warnings(pictures, val=tmp_path)
    assert line.startswith("warning: 1 of 2 validation photos is among the training photos")
    assert "known.png" in line
    assert "other.png" not in line


def test_photos_without_copies_are_not_warned_of(pictures, tmp_path):
    cv2.imwrite(str(tmp_path / "other.png"), photo(9, 276, 280))
    assert warnings(pictures, val=tmp_path) == []


def test_the_number_of_bursts_and_shards_is_told(shards):
    assert load(shards, patches=1290).lines == [
        "training: 129 bursts in 2 shards, each drawn 10 times on average (--patches 1290)"
    ]


def test_copies_of_shards_and_known_validation_photos_are_named(shards, pictures, tmp_path):
    copy_of(shards / "shard-00000.tar", tmp_path / "again.tar")
    copies, known = warnings(shards, tmp_path / "again.tar", val=pictures)
    assert re.search(r"again\.tar begins with the same burst as .*shard-00000\.tar", copies)
    assert "3 of 3 validation photos are among the photos that the shards were made from" in known


# --- half-made data -------------------------------------------------------------------


def train(*arguments):
    return kpn("train", *arguments, "--patches", 1, "--batch", 1)


def test_an_unfinished_data_set_is_refused_and_no_run_is_made(shards, tmp_path):
    unfinished = tmp_path / "set"
    for path in shards.iterdir():
        copy_of(path, unfinished / path.name)
    (unfinished / "shard-00000.tar").rename(unfinished / ".kpn-0123456789ab.tar")
    refused = train(unfinished, "-o", tmp_path / "run")
    assert_one_line(refused, "1 of 2 shards are missing", "shard-00000.tar", "kpn synth")
    for path in unfinished.glob("*.tar"):
        path.unlink()
    assert_one_line(train(unfinished, "-o", tmp_path / "run"), "2 of 2 shards are missing")
    (unfinished / "dataset.json").write_text(json.dumps({"count": "many"}))
    assert_one_line(train(unfinished, "-o", tmp_path / "run"), "dataset.json: damaged")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["in a burst", "between bursts", "before the end"])
def test_a_shard_that_is_cut_off_is_refused(shards, tmp_path, where):
    content = (shards / "shard-00001-of-1.tar").read_bytes()
    data_end = len(content.rstrip(b"\0")) // 512 * 512 + 512
    keep = {"in a burst": 5000, "between bursts": 512 * 2, "before the end": data_end}[where]
    (tmp_path / "cut.tar").write_bytes(content[:keep])
    assert_one_line(train(tmp_path / "cut.tar", "-o", tmp_path / "run"), "cut.tar")
    assert not (tmp_path / "run").exists()


def test_bursts_without_their_description_are_not_taken_for_photos(pictures, tmp_path):
    write_dataset(sorted(pictures.iterdir()), tmp_path / "set", DatasetConfig(1, 1))
    (tmp_path / "set" / "dataset.json").unlink()  # copied elsewhere without it
    command = ("-o", tmp_path / "run")
    assert_one_line(train(tmp_path / "set", *command), "no photos", "there are raw files")
    burst = tmp_path / "set" / "burst_00000"
    assert_one_line(train(burst / "truth.tif", *command), "truth.tif", "a mosaic, not a photo")
    (raw,) = burst.glob("*.dng")
    assert_one_line(train(raw, *command), raw.name, "a raw file, not a photo")
    assert not (tmp_path / "run").exists()


def test_the_folder_above_shards_names_theirs(shards, tmp_path):
    refused = train(shards.parent, "-o", tmp_path / "run")
    assert_one_line(refused, "no photos", f"{shards} holds tar files")


# --- missing packages -----------------------------------------------------------------


def test_a_missing_package_is_told_before_any_work_and_file(pictures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    monkeypatch.setitem(sys.modules, "pywt", None)
    out = tmp_path / "out"
    (tmp_path / "broken.png").write_bytes(b"would be named if it were read")
    data = (pictures, tmp_path / "broken.png")
    refused = kpn("train", *data, "-o", out, "--tensorboard")
    assert_one_line(refused, "TensorBoard is not installed", "pip install 'kpn[research]'")
    assert_one_line(kpn("synth", *data, "-o", out, "--format", "shards"), "webdataset is not")
    refused = kpn("eval", *data, "-o", out, "--baselines", "wavelets")
    assert_one_line(refused, "PyWavelets is not installed")
    assert not out.exists()


def test_lines_come_without_a_terminal_too(pictures, weights, tmp_path, monkeypatch):
    from kpn_cli.cli import train_progress

    monkeypatch.setattr(train_progress, "_LINE_SECONDS", 0.0)
    command = ("train", pictures / "0.png", "-o", tmp_path / "run", "--batch", 1, "--patches", 3)
    done = kpn(*command, "--minutes", 1e-9, "--init", weights)
    assert done.exit_code == 0, done.output
    assert "training: 3 bursts drawn from 1 photo" in done.stderr
    assert re.search(r"\d of 3 patches \(\d+%\) .*/s  left: .* by --minutes", done.stderr)
    assert "stopped by --minutes at 1 of 3 patches; run the same command again" in done.stderr
