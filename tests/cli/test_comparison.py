"""`kpn denoise --crop`, `--grain`, `--jpeg-quality` and `--jpeg-size` on the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from cards import denoised, write_bracket, write_bursts, write_frame
from command_line import assert_one_line, kpn
from PIL import Image

from kpn_cli.cli.app import main
from kpn_cli.pipeline.fingerprint import options_digest
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.tiff.reader import fractions, read_tree, walk


@pytest.fixture
def card(tmp_path):
    write_bursts(tmp_path / "in", 2)
    return tmp_path / "in"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--strength", "0.5,1"], "--strength takes several values only with --crop"),
        (["--grain", "0,0.5"], "--grain takes several values only with --crop"),
        (["--grain", "1.5"], "1.5 is out of range; give a number from 0 to 1"),
        (["--crop", "1,2,3"], "four whole numbers, X,Y,W,H"),
        (["--crop", "0,0,0,20"], "W and H at 16"),
        (["--crop", "0,0,15,20"], "W and H at 16"),
        (["--crop", "0,0,20,20", "--format", "dng"], "--crop writes a PNG"),
        (["--crop", "0,0,20,20", "--report"], "--crop and --report exclude each other"),
        (["--crop", "0,0,20,20", "--jpeg-size", "200"], "--crop and --jpeg-size exclude"),
        (["--crop", "0,0,20,20", "--strength", "1,2,nan"], "is not a number"),
        (["--crop", "0,0,20,20", "--strength", "1,"], "'' is not a number"),
        (["--crop", "0,0,20,20", "--grain", "0,.1,.2,.3,.4,.5,.6,.7,.8"], "give up to 8"),
        (["--jpeg-quality", "101"], "101 is out of range"),
    ],
)
def test_what_does_not_fit_together_is_wrong_usage(card, arguments, words):
    run = kpn("denoise", card, *arguments)
    assert run.exit_code == 2
    assert words in " ".join(run.stderr.split())


def test_each_burst_gets_a_picture_whose_path_is_printed(card, tmp_path, weights):
    out = tmp_path / "out"
    command = ["denoise", card, "-o", out, "--weights", weights, "--crop", "10,6,32,20"]
    run = kpn(*command, "--strength", "0.5,2", "--grain", "0,0.4")
    assert run.exit_code == 0, run.output
    paths = sorted(out.iterdir())
    assert run.stdout.split() == [str(path) for path in paths]
    assert len(paths) == 2
    assert all(path.name.endswith("_kpn_crop_10_6_32x20.png") for path in paths)
    document = json.loads(kpn(*command, "--overwrite", "--json").stdout)
    assert [burst["outputs"] for burst in document["bursts"]] == [
        {"crop": str(path)} for path in paths
    ]
    run = kpn("denoise", card, "-o", out, "--crop", "70,0,20,20", "--weights", weights)
    assert run.exit_code == 1
    assert "80 pixels wide and 64 high" in run.stderr


def test_the_template_of_names_holds_for_pictures_of_a_part_too(card, tmp_path, weights):
    out = tmp_path / "out"
    command = ["denoise", card, "-o", out, "--weights", weights, "--crop", "10,6,32,20"]
    assert kpn(*command, "--name", "{first}-part").exit_code == 0
    names = {f"{path.stem}-part_crop_10_6_32x20.png" for path in card.glob("IMG_*0.dng")}
    assert names
    assert names <= {path.name for path in out.iterdir()}
    run = kpn(*command, "--name", "part", "--json")
    assert run.exit_code == 1  # two bursts cannot have one name
    document = json.loads(run.stdout)
    assert [burst["outputs"]["crop"] for burst in document["bursts"]] == [
        str(out / "part_crop_10_6_32x20.png")
    ]
    assert document["bursts"][0]["fallen_back"] is None  # a part tells nothing of the whole
    assert "tell them apart with --name" in document["failed"][0]["error"]


def test_the_disk_and_the_time_for_whole_pictures_do_not_count_for_a_part(
    card, tmp_path, weights, monkeypatch
):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=8000))
    command = ["denoise", card, "-o", tmp_path / "out", "--weights", weights]
    assert "free some space" in kpn(*command, "--dry-run").stderr
    command += ["--crop", "10,6,32,20"]
    dry = kpn(*command, "--dry-run")
    assert dry.exit_code == 0
    assert "time" not in dry.stderr.split()
    assert "free some space" not in dry.stderr + kpn(*command).stderr
    assert json.loads(kpn(*command, "--dry-run", "--json").stdout)["estimate"] is None


def test_a_crop_of_one_bad_burst_is_one_line(tmp_path, weights):
    write_bursts(tmp_path / "in", 1)
    crop = ["--crop", "0,0,500,500", "--weights", weights]
    assert_one_line(kpn("denoise", tmp_path / "in", "-o", tmp_path / "out", *crop), "--crop")


def test_a_crop_is_refused_under_torchrun(card, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    run = kpn("denoise", card, "-o", tmp_path / "out", "--crop", "0,0,20,20")
    assert_one_line(run, "without torchrun")


def test_grain_is_told_in_the_tags_the_json_and_the_report(tmp_path, weights):
    for n in range(3):
        write_frame(tmp_path / "in" / f"IMG_{n}.dng", 0.1 * n, n)
    command = [tmp_path / "in", "--weights", weights, "--noise", "1e-6,1e-6", "--format", "dng"]
    profiles = []
    for grain in ("0", "0.5"):
        out = tmp_path / grain
        (burst,) = denoised(*command, "-o", out, "--grain", grain, "--report")["bursts"]
        assert burst["grain"] == float(grain)
        (dng,) = out.glob("*.dng")
        tags = [ifd for ifd in walk(read_tree(dng).ifds) if fractions(ifd, 50935)]
        assert fractions(tags[0], 50935) == ((1.0,) if grain == "0" else (0.75,))
        profiles.append(read_info(dng).noise_profile)
        page = (out / "report.html").read_text("utf-8")
        assert ("50% of the luminance noise" in page) == (grain == "0.5")
    assert np.all(np.array(profiles[1].read) > np.array(profiles[0].read))
    # Results without grain are not taken for those with it.
    (failed,) = denoised(*command, "-o", tmp_path / "0", "--grain", "0.5", code=1)["failed"]
    assert "with other options" in failed["error"]
    assert denoised(*command, "-o", tmp_path / "0.5", "--grain", "0.5")["bursts"][0]["skipped"]


def test_a_bracket_with_headroom_gets_grain(tmp_path, weights):
    write_bracket(tmp_path / "in", (0, -2, 2))
    planes = []
    for grain in ("0", "1"):
        out = tmp_path / grain
        denoised(
            *(tmp_path / "in", "-o", out, "--weights", weights, "--format", "dng"),
            *("--exposures", "mixed", "--headroom", "--grain", grain),
        )
        (dng,) = out.glob("*.dng")
        planes.append(read_planes(read_info(dng)))
    assert planes[1].std() > planes[0].std()
    assert np.mean(planes[1] != planes[0]) > 0.5


def test_finished_bursts_are_found_without_pytorch():
    code = "import sys, kpn_cli.batch.run, kpn_cli.cli.comparison; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_jpeg_is_reduced_and_keeps_its_tags(tmp_path, weights):
    write_bursts(tmp_path / "in", 1, size=(96, 160))
    sizes = {}
    for name, more in {
        "usual": [],
        "small": ["--jpeg-quality", "50", "--jpeg-size", "80"],
        "large": ["--jpeg-size", "5000"],
    }.items():
        out = tmp_path / name
        denoised(tmp_path / "in", "-o", out, "--weights", weights, "--format", "jpeg", *more)
        (path,) = out.iterdir()
        picture = Image.open(path)
        exif = picture.getexif()
        assert exif[271] == "Canikon"
        assert (exif.get_ifd(34665)[40962], exif.get_ifd(34665)[40963]) == picture.size
        sizes[name] = picture.size, path.stat().st_size
    assert sizes["usual"][0] == sizes["large"][0] == (160, 96)
    assert sizes["small"][0] == (80, 48)
    assert sizes["small"][1] < 0.7 * sizes["usual"][1]
    assert sizes["large"][1] == sizes["usual"][1]


def test_the_options_of_a_jpeg_concern_jpegs_only():
    for changed in ({"jpeg_quality": 80}, {"jpeg_size": 2000}):
        assert options_digest(Options(**changed)) == options_digest(Options())
        with_jpeg = Options(formats=("dng", "jpeg"), **changed)
        assert options_digest(with_jpeg) != options_digest(Options(formats=("dng", "jpeg")))


def test_lists_may_come_from_defaults_of_a_file():
    command = main.commands["denoise"]
    defaults = {"strength": [0.5, 2.0], "grain": 0.25}
    context = command.make_context("denoise", ["x"], default_map=defaults)
    assert context.params["strength"] == (0.5, 2.0)
    assert context.params["grain"] == (0.25,)
