"""The main job from end to end: what a user types, and what comes out."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import flat_frames
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from pictures import planes, scene

from kpn_cli import choices
from kpn_cli.align import block_matching
from kpn_cli.batch.plan import Grouping
from kpn_cli.burst.frame import Frame
from kpn_cli.cli.app import main
from kpn_cli.errors import KpnError
from kpn_cli.evaluation import metrics
from kpn_cli.image import bayer
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.network.kpn import KPN
from kpn_cli.network.weights import load_weights, save_weights
from kpn_cli.noise import estimation, selection
from kpn_cli.noise.selection import NoiseReport, choose_noise
from kpn_cli.output import dng_images, dng_levels, dng_tags, dng_writer
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_info, read_mosaic, read_planes
from kpn_cli.synthesis import demo, protocol
from kpn_cli.synthesis.photos import Scene
from kpn_cli.training import config as config_module

SHARED = Path(__file__).parents[3] / "shared" / "raw"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared is not there")

KPN_PROGRAM = Path(sys.executable).with_name("kpn")
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")
COMMANDS = sorted(main.commands)


def kpn(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def burst(tmp_path_factory) -> tuple[list[Path], Path]:
    """A hand-held burst of a part of a real picture at gain 2, and its truth."""
    whole = demo.bundled_scene()
    part = Scene("part", np.ascontiguousarray(whole.channels[:, 300:620, 400:780]))
    return demo.write_burst(part, tmp_path_factory.mktemp("burst"), frames=5)


@pytest.fixture(scope="module")
def averaging(tmp_path_factory, tiny_config) -> Path:
    """A network that has learned nothing: exactly the robust mean, of one frame itself."""
    network = KPN(tiny_config)
    with torch.no_grad():
        network.head_weight.zero_()
    path = tmp_path_factory.mktemp("weights") / "averaging.safetensors"
    save_weights(path, network, {})
    return path


# --- help and usage ---------------------------------------------------------


def test_help_needs_no_torch():
    script = (
        "import sys; from click.testing import CliRunner; from kpn_cli.cli.app import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "heavy = {'torch', 'numpy', 'rawpy', 'cv2', 'tifffile', 'skimage'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_is_in_the_readme(command):
    result = kpn(command, "--help")
    assert result.exit_code == 0
    assert len(main.commands[command].help or "") > 20
    assert f"kpn {command}" in README


def test_using_the_network_does_not_load_the_compiler():
    """It takes longer than a small burst."""
    script = (
        "import sys; from kpn_cli.batch import run\n"
        "from kpn_cli.network.weights import load_weights\n"
        "load_weights(); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_help_in_the_guide_is_what_the_program_says():
    blocks = re.findall(r"```console\n\$ kpn (\w+) --help\n(.*?)```", README + GUIDE, re.DOTALL)
    assert "denoise" in dict(blocks)
    for command, text in blocks:
        result = CliRunner().invoke(main, [command, "--help"], prog_name="kpn", terminal_width=78)
        assert result.output.strip() == text.strip()


def test_the_command_line_offers_what_the_library_does():
    """Some defaults stand twice, so that help needs no torch."""
    defaults = {option.name: option.default for option in main.commands["denoise"].params}
    options = Options()
    for name in ("reference", "strength", "device", "precision"):
        assert defaults[name] == getattr(options, name)
    assert defaults["formats"] == ",".join(options.formats)
    assert defaults["gap"] == Grouping().gap
    everything = ",".join(choices.FORMATS)
    assert kpn("denoise", "missing.dng", "--format", everything).exit_code == 1
    defaults = {option.name: option.default for option in main.commands["train"].params}
    defaults["rate"] = defaults.pop("lr")
    config = config_module.TrainConfig()
    names = ("patches", "batch", "rate", "schedule", "seed", "validate_every")
    assert [defaults[name] for name in names] == [getattr(config, name) for name in names]


def test_the_library_has_what_there_is_to_choose():
    assert tuple(dng_images.COMPRESSIONS) == choices.COMPRESSIONS
    assert tuple(map(str, protocol.GAINS)) == choices.GAINS
    assert config_module.SCHEDULES == choices.SCHEDULES
    assert config_module.VARIANTS == choices.VARIANTS


@pytest.mark.parametrize(
    "arguments",
    [
        ["denoise"],
        ["denoise", "a.dng", "--format", "dng,png"],
        ["denoise", "a.dng", "--strength", "5"],
        ["denoise", "a.dng", "--noise", "1"],
        ["denoise", "a.dng", "--noise", "missing.json"],
        ["denoise", "a.dng", "--noise", "0,0"],
        ["denoise", "a.dng", "--noise", "-1,0"],
        ["denoise", "a.dng", "--tile", "1"],
        ["denoise", "a.dng", "--device", "tpu"],
        ["calibrate", "a.dng"],
        ["dissolve", "a.dng"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments):
    assert kpn(*arguments).exit_code == 2


# --- the main job -----------------------------------------------------------


def test_the_installed_program_denoises_a_burst(burst, tmp_path):
    frames, truth = burst
    run = subprocess.run(
        [KPN_PROGRAM, "denoise", *frames, "-o", tmp_path, "--reference", "first", "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(run.stdout)
    assert document["failed"] == []
    (result,) = document["bursts"]
    assert result["reference"] == str(frames[0])
    assert result["frames"] == [str(path) for path in frames]
    assert result["noise"]["source"] == "profile"
    assert np.allclose(result["noise"]["shot"], protocol.GAINS[2][0])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "IMG_0000_kpn.dng",
        "IMG_0000_kpn_linear.tif",
        "IMG_0000_kpn_srgb.tif",
    ]
    clean, noisy, out = (
        read_planes(read_info(path)) for path in (truth, frames[0], result["outputs"]["dng"])
    )
    gain = metrics.psnr(out, clean, 1.0) - metrics.psnr(noisy, clean, 1.0)
    assert gain > 6


def test_a_folder_is_a_burst_and_all_formats_are_written(burst, weights, tmp_path):
    frames, _ = burst
    folder = tmp_path / "in"
    folder.mkdir()
    for path in frames:
        (folder / path.name).write_bytes(path.read_bytes())
    formats = ["--format", "dng,linear,srgb,jpeg"]
    result = kpn("denoise", folder, "-o", tmp_path / "out", "--weights", weights, *formats)
    assert result.exit_code == 0, result.output
    assert len(list((tmp_path / "out").iterdir())) == 4
    assert {path.name for path in folder.iterdir()} == {path.name for path in frames}
    assert all((folder / p.name).read_bytes() == p.read_bytes() for p in frames)


def test_the_same_burst_gives_the_same_bytes_in_any_order(burst, weights, tmp_path, monkeypatch):
    frames, _ = burst
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")  # the one thing that is new each time
    for number, files in enumerate((frames, frames[::-1])):
        out = tmp_path / str(number)
        assert kpn("denoise", *files, "-o", out, "--weights", weights).exit_code == 0
    for path in (tmp_path / "0").iterdir():
        assert path.read_bytes() == (tmp_path / "1" / path.name).read_bytes()


def _in_a_terminal(command: list[object], **environment: str) -> tuple[str, str]:
    """Run a command with stderr in a terminal of its own; return stdout and what that shows."""
    pty = pytest.importorskip("pty", reason="there are no pseudo-terminals here")
    own, its = pty.openpty()
    shown = []
    clean = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=its,
        env=clean | {"TERM": "xterm-256color"} | environment,
    )
    os.close(its)
    with suppress(OSError):  # the terminal's end
        while part := os.read(own, 65536):
            shown.append(part)
    os.close(own)
    out = process.communicate()[0]
    assert process.returncode == 0
    return out.decode(), b"".join(shown).decode()


def test_a_terminal_shows_bars_in_colour_unless_none_is_wanted(burst, weights, tmp_path):
    command = [KPN_PROGRAM, "denoise", *burst[0], "--weights", weights, "--overwrite"]
    command += ["-o", tmp_path, "--format", "dng"]
    colour = re.compile(r"\x1b\[[0-9;]*m")
    out, shown = _in_a_terminal(command)
    assert "writing" in shown and colour.search(shown)
    _, plain = _in_a_terminal(command, NO_COLOR="1")
    assert "writing" in plain
    assert not re.search(r"\x1b\[[0-9;]*3[0-7]|\x1b\[38", plain)
    same, silent = _in_a_terminal([*command, "--quiet"])
    assert silent == ""
    assert same == out != ""


def test_quiet_says_what_has_failed_and_nothing_else(burst, weights, tmp_path):
    (tmp_path / "in").mkdir()
    broken = tmp_path / "in" / "broken.dng"
    broken.write_bytes(b"no raw at all")
    command = ["denoise", *burst[0], broken, "--weights", weights, "--format", "dng", "-q"]
    result = kpn(*command, "-o", tmp_path / "out")
    assert result.exit_code == 1
    assert [Path(line).parent for line in result.stdout.splitlines()] == [tmp_path / "out"]
    (line,) = result.stderr.splitlines()
    assert "broken.dng" in line


@pytest.mark.parametrize("phase", bayer.PHASES)
@pytest.mark.parametrize("size", [(64, 80), (65, 79)])
def test_one_frame_comes_back_as_it_is_for_any_phase_size_and_black(
    phase, size, averaging, tmp_path, rng
):
    """What has learned nothing returns a single frame: so nothing but the writing can differ."""
    tags = dng_tags.DngTags(phase, (256.0, 260.0, 250.5, 262.0), 4095, make="a", model="b", iso=100)
    mosaic = rng.integers(230, 4000, size).astype(np.uint16)
    source = tmp_path / "in.dng"
    dng_writer.write_cfa_dng(source, mosaic, tags)
    result = kpn(
        *("denoise", source, "-o", tmp_path, "--weights", averaging, "--noise", "1e-3,1e-5"),
        *("--precision", "fp32", "--format", "dng"),
    )
    assert result.exit_code == 0, result.output
    before, after = read_info(source), read_info(tmp_path / "in_kpn.dng")
    assert (after.phase, after.height, after.width) == (phase, *size)
    step = 1 / (after.white - after.black[0])
    np.testing.assert_allclose(read_planes(after), read_planes(before), rtol=0, atol=1.01 * step)


def test_strength_zero_keeps_the_reference(burst, weights, tmp_path):
    frames, _ = burst
    kpn("denoise", *frames, "-o", tmp_path, "--weights", weights, "--strength", 0,
        "--reference", "IMG_0003.dng")  # fmt: skip
    out = read_planes(read_info(tmp_path / "IMG_0003_kpn.dng"))
    np.testing.assert_allclose(out, read_planes(read_info(frames[3])), rtol=0, atol=1e-5)


def test_compression_changes_the_size_of_the_dng_and_no_sample_of_it(burst, weights, tmp_path):
    frames, _ = burst
    found = []
    for how in ("lossless", "none"):
        out = tmp_path / how
        run = kpn("denoise", frames[0], "-o", out, "--weights", weights, "--format", "dng",
                  "--compression", how)  # fmt: skip
        assert run.exit_code == 0, run.output
        found.append(out / "IMG_0000_kpn.dng")
    assert found[0].stat().st_size < found[1].stat().st_size
    np.testing.assert_array_equal(*(read_planes(read_info(path)) for path in found))


def test_of_many_frames_the_one_that_does_not_belong_is_left_out(weights, tmp_path):
    frames, _ = demo.write_burst(scene(6, 260, 260), tmp_path / "in", frames=11)
    stranger, _ = demo.write_burst(scene(7, 260, 260), tmp_path / "other", frames=1)
    planes = read_planes(read_info(stranger[0]))[:, ::-1]
    info = read_info(frames[4])
    mosaic, black, white = dng_levels.encode_planes(planes, info.phase, info.height, info.width)
    dng_writer.write_cfa_dng(frames[4], mosaic, dng_tags.tags_of(info, black=black, white=white))
    run = kpn("denoise", *frames, "-o", tmp_path, "--weights", weights, "--json",
              "--reference", "first")  # fmt: skip
    (result,) = json.loads(run.stdout)["bursts"]
    why = result["dropped"]
    assert "something else" in why.pop(str(frames[4]))
    # From the hand, and with little noise, the best of ten are better than all of them.
    assert len(result["frames"]) == 10 - len(why) >= 8
    assert all("agree better" in reason for reason in why.values())


def _identity(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_finished_outputs_are_kept_unless_told_otherwise(burst, weights, tmp_path):
    frames, _ = burst
    command = ["denoise", *frames, "-o", tmp_path, "--weights", weights, "--format", "dng"]
    assert kpn(*command).exit_code == 0
    (out,) = tmp_path.iterdir()
    made = _identity(out)
    again = json.loads(kpn(*command, "--json").stdout)["bursts"][0]
    assert again["skipped"]
    assert _identity(out) == made
    assert kpn(*command, "--overwrite").exit_code == 0
    assert _identity(out) != made


@pytest.mark.parametrize(
    "change", [["--strength", "2"], ["--reference", "2"], ["--compression", "none"], ["--noise",
    "1e-3,1e-5"]]
)  # fmt: skip
def test_what_is_there_of_other_options_or_frames_is_neither_kept_nor_replaced(
    burst, weights, tmp_path, change
):
    frames, _ = burst
    command = ["denoise", *frames, "-o", tmp_path, "--weights", weights, "--format", "dng",
               "--reference", "2"]  # fmt: skip
    assert kpn(*command).exit_code == 0
    (out,) = tmp_path.iterdir()
    before = out.read_bytes()
    if change[0] == "--reference":  # the same name from other frames
        changed = ["denoise", *frames[1:], *command[1 + len(frames) :], *change[:1], "1"]
    else:
        changed = [*command, *change]
    _one_line(kpn(*changed), out.name, "--overwrite")
    assert out.read_bytes() == before
    assert kpn(*changed, "--overwrite").exit_code == 0
    assert out.read_bytes() != before


def test_of_several_formats_only_the_missing_ones_are_written(burst, weights, tmp_path):
    frames, _ = burst
    command = ["denoise", *frames, "-o", tmp_path, "--weights", weights]
    assert kpn(*command, "--format", "srgb").exit_code == 0
    (there,) = tmp_path.iterdir()
    made = _identity(there)
    assert kpn(*command, "--format", "srgb,jpeg,dng").exit_code == 0
    assert _identity(there) == made
    assert len(list(tmp_path.iterdir())) == 3


def test_a_folder_can_be_its_own_output_twice(burst, weights, tmp_path):
    for path in burst[0]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    command = ["denoise", tmp_path, "-o", tmp_path, "--weights", weights, "--format", "dng"]
    assert kpn(*command).exit_code == 0
    again = kpn(*command, "--overwrite", "--json")
    assert len(json.loads(again.stdout)["bursts"][0]["frames"]) == len(burst[0])


def test_where_the_noise_comes_from_is_told(burst, weights, tmp_path):
    frames, _ = burst
    stripped = []
    for path in frames:
        info = read_info(path)
        mosaic = bayer.unpack(
            (read_planes(info) * (info.white - info.black[0]) + info.black[0]).round(),
            info.phase,
            info.height,
            info.width,
        )
        bare = tmp_path / path.name
        dng_writer.write_cfa_dng(bare, mosaic.astype(np.uint16), dng_tags.tags_of(info))
        stripped.append(bare)

    def source(files, *more) -> str:
        run = kpn("denoise", *files, "-o", tmp_path / "out", "--weights", weights, "--json",
                  "--overwrite", *more)  # fmt: skip
        return json.loads(run.stdout)["bursts"][0]["noise"]["source"]

    assert source(frames) == "profile"
    assert source(frames, "--noise", "1e-3,1e-5") == "given"
    # The typical camera at this ISO has a fraction of the noise that the frames show.
    assert source(stripped) == "measured"
    assert source(stripped[:1]) == "measured"


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


def test_noise_of_another_camera_or_none_at_all_is_one_line(burst, tmp_path):
    flats = flat_frames.pairs(tmp_path, (400,))
    camera = tmp_path / "camera.json"
    assert kpn("calibrate", tmp_path, "-o", camera).exit_code == 0
    command = ["denoise", burst[0][0], "-o", tmp_path / "out", "--noise", camera]
    _one_line(kpn(*command), "IMG_0000.dng", "Maker Flat 1", "camera.json")
    camera.write_text("{")
    _one_line(kpn(*command), "camera.json", "kpn calibrate")
    failed = json.loads(kpn(*command, "--json").stdout)["failed"]
    assert "camera.json" in failed[0]["error"]
    assert not (tmp_path / "out").exists()
    _one_line(kpn("calibrate", *flats, "-o", flats[0]), flats[0].name, "input")
    _one_line(kpn("calibrate", *flats[:-1], "-o", camera), flats[-2].name, "no second frame")
    assert camera.read_text() == "{"


def test_a_typical_camera_is_believed_by_its_iso():
    noise = estimation.from_iso(3200)
    frames = [_again(noise, seed) for seed in (1, 2)]
    shifts = [_still(frames[0])] * 2
    assert choose_noise(replace(_INFO, iso=3200.0), frames, shifts).source == "iso"


def test_a_profile_that_the_frames_contradict_is_used_with_a_warning():
    true = NoiseModel.uniform(1e-3, 1e-5)
    frames = [_again(true, seed) for seed in (1, 2)]
    shifts = [_still(frames[0])] * 2
    wrong = true.with_strength(0.2)
    report = choose_noise(replace(_INFO, noise_profile=wrong), frames, shifts)
    assert (report.source, report.model) == ("profile", wrong)
    assert "5" in report.warning or "4." in report.warning
    right = choose_noise(replace(_INFO, noise_profile=true), frames, shifts)
    assert right.warning == ""


@pytest.mark.parametrize("source", ["given", "profile", "iso"])
def test_a_model_that_states_too_little_is_used_with_a_warning(source):
    """Short of twice the sigma, where two estimates would contradict each other."""
    true, rng = NoiseModel.uniform(1e-3, 1e-5), np.random.default_rng(0)
    scene = planes(1, 300, 300)
    scene[:, :, 150:] = 0.2
    frames = [Frame(torch.from_numpy(true.sample(scene, rng))) for _ in range(4)]
    shifts = [_still(frames[0])] * 4
    for told, words in ((1, ""), (1.5, ""), (0.7, "1.4 times"), (0.3, "2 times, or more")):
        report = NoiseReport(source, true.with_strength(told))
        found = selection.checked(report, frames, shifts)
        assert found.model == report.model
        assert words in found.warning if words else found.warning == ""
    measured = NoiseReport("measured", true.with_strength(0.7))
    assert selection.checked(measured, frames, shifts) == measured


def test_a_profile_without_read_noise_gets_what_the_frames_show():
    true = NoiseModel.uniform(1e-3, 1e-4)
    frames = [_again(true, seed) for seed in (1, 2)]
    shifts = [_still(frames[0])] * 2
    phone = NoiseModel(true.shot, (0.0,) * 4)
    report = choose_noise(replace(_INFO, noise_profile=phone), frames, shifts)
    assert report.model.shot == phone.shot
    np.testing.assert_allclose(report.model.read, true.read, rtol=0.5)
    assert "shadow" in report.warning


def test_frames_that_cannot_be_measured_get_the_table_for_their_iso(weights, tmp_path, monkeypatch):
    def fail(*frames: np.ndarray) -> NoiseModel:
        raise KpnError("all of it is clipped: give --noise S,O")

    monkeypatch.setattr(estimation, "measure_blocks", fail)
    frame = np.random.default_rng(0).integers(4000, 9000, (24, 30)).astype(np.uint16)
    info = replace(_INFO, height=24, width=30)
    for iso, code in ((3200.0, 0), (None, 1)):
        path = tmp_path / f"{code}.dng"
        dng_writer.write_cfa_dng(path, frame, replace(dng_tags.tags_of(info), iso=iso, noise=None))
        result = kpn("denoise", path, "-o", tmp_path / "out", "--weights", weights, "--json")
        assert result.exit_code == code, result.output
        if iso:
            assert json.loads(result.stdout)["bursts"][0]["noise"]["source"] == "iso"
        else:
            assert path.name in result.stderr


def _again(noise: NoiseModel, seed: int = 9) -> Frame:
    sample = noise.sample(planes(1, 200, 200), np.random.default_rng(seed))
    return Frame(torch.from_numpy(sample))


def _still(frame: Frame) -> torch.Tensor:
    return torch.zeros_like(block_matching.Aligner(frame.samples[1]).align(frame.samples[1]))


# --- no stage is dead -------------------------------------------------------


@pytest.mark.parametrize("stage", ["align", "noise", "network", "reference", "strength"])
def test_every_stage_shows_in_the_picture(stage, burst, weights, tmp_path, monkeypatch):
    frames, _ = burst

    def result(name: str, *more: object) -> np.ndarray:
        out = tmp_path / name
        run = kpn("denoise", *frames, "-o", out, "--weights", weights, "--format", "dng", *more)
        assert run.exit_code == 0, run.output
        return read_planes(read_info(next(out.iterdir())))

    before = result("before")
    more: list[object] = []
    if stage == "align":
        right = block_matching.Aligner.align
        monkeypatch.setattr(
            block_matching.Aligner, "align", lambda self, frame: right(self, frame) + 3
        )
    elif stage == "noise":
        more = ["--noise", "1e-5,1e-7"]
    elif stage == "network":
        monkeypatch.setattr(KPN, "_unet", lambda self, x: x.new_ones(len(x), 8, *x.shape[2:]))
    elif stage == "reference":
        more = ["--reference", "first"]
    else:
        more = ["--strength", "3"]
    assert np.abs(result("after", *more) - before).mean() > 1e-6


# --- what can go wrong ------------------------------------------------------

_INFO = None  # set below, once a file to read has been made


@pytest.fixture(autouse=True, scope="module")
def _template(burst):
    global _INFO
    _INFO = replace(read_info(burst[0][0]), noise_profile=None, iso=None)


def _one_line(result: Result, *words: str) -> None:
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("kpn: ")
    for word in words:
        assert word in line


def test_a_frame_of_another_exposure_cannot_be_merged_by_force(burst, tmp_path):
    frames, _ = burst
    info = read_info(frames[0])
    odd = tmp_path / "ODD.dng"
    mosaic = np.random.default_rng(0).integers(4000, 9000, (info.height, info.width))
    dng_writer.write_cfa_dng(
        odd, mosaic.astype(np.uint16), replace(dng_tags.tags_of(info), iso=100)
    )
    result = kpn("denoise", *frames, odd, "-o", tmp_path / "out", "--no-group")
    _one_line(result, "ODD.dng", "ISO 100", "3450")
    assert not (tmp_path / "out").exists()


def test_an_output_never_replaces_an_input(burst, weights, tmp_path):
    frames, _ = burst
    copy = tmp_path / "a.dng"
    other = tmp_path / "a_kpn.dng"
    copy.write_bytes(frames[0].read_bytes())
    other.write_bytes(frames[1].read_bytes())
    result = kpn("denoise", copy, other, "-o", tmp_path, "--reference", "a.dng", "--overwrite",
                 "--weights", weights)  # fmt: skip
    _one_line(result, "a_kpn.dng", "input")
    assert other.read_bytes() == frames[1].read_bytes()


def test_a_device_that_is_not_there_is_an_error(burst, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    _one_line(kpn("denoise", *burst[0], "-o", tmp_path, "--device", "cuda"), "--device auto")


def test_weights_that_are_none_are_an_error(burst, tmp_path):
    wrong = tmp_path / "weights.safetensors"
    wrong.write_bytes(b"not weights")
    result = kpn("denoise", *burst[0], "-o", tmp_path / "out", "--weights", wrong)
    _one_line(result, "weights.safetensors")
    assert not (tmp_path / "out").exists()


def test_failures_are_in_the_json_too(tmp_path):
    result = kpn("denoise", tmp_path / "missing.dng", "-o", tmp_path, "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert document["bursts"] == []
    assert "missing.dng" in document["failed"][0]["error"]


def _truncated(path: Path, frame: Path) -> None:
    path.write_bytes(frame.read_bytes()[:-20_000])


def _blank(path: Path, frame: Path) -> None:
    info = read_info(frame)
    empty = np.full((info.height, info.width), 4096, np.uint16)
    dng_writer.write_cfa_dng(path, empty, dng_tags.tags_of(info))


def _half_blank(path: Path, frame: Path) -> None:
    info = read_info(frame)
    mosaic = np.random.default_rng(0).integers(4000, 9000, (info.height, info.width))
    mosaic[info.height // 3 :] = 0
    dng_writer.write_cfa_dng(path, mosaic.astype(np.uint16), dng_tags.tags_of(info))


@pytest.mark.parametrize(
    "make",
    [
        lambda path, frame: path.write_bytes(b""),
        lambda path, frame: path.write_text("a text"),
        lambda path, frame: path.mkdir(),
        lambda path, frame: path.write_bytes(frame.read_bytes()[:100]),
        _truncated,
        _blank,
        _half_blank,
    ],
    ids=["empty", "text", "folder", "header", "truncated", "blank", "half-blank"],
)
def test_a_file_that_is_no_whole_raw_is_named_and_the_rest_goes_on(make, burst, weights, tmp_path):
    frames, _ = burst
    bad = tmp_path / "BAD.dng"
    make(bad, frames[0])
    command = ["denoise", *frames, bad, "-o", tmp_path / "out", "--weights", weights]
    result = kpn(*command, "--format", "dng", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    (done,), (failed,) = document["bursts"], document["failed"]
    assert len(done["frames"]) == len(frames)
    assert failed["files"] == [str(bad)]
    assert "BAD.dng" in failed["error"]
    assert "Traceback" not in result.output
    assert Path(done["outputs"]["dng"]).exists()


@pytest.mark.parametrize("make", [_blank, _half_blank])
def test_a_damaged_frame_of_a_burst_is_left_out_and_named(make, burst, weights, tmp_path):
    frames, _ = burst
    bad = tmp_path / "BAD.dng"
    make(bad, frames[0])
    command = ["denoise", *frames, bad, "-o", tmp_path / "out", "--weights", weights, "--no-group"]
    result = kpn(*command, "--format", "dng", "--json")
    assert result.exit_code == 0
    (done,) = json.loads(result.stdout)["bursts"]
    assert len(done["frames"]) == len(frames)
    assert "empty" in done["dropped"][str(bad)] or "every pixel" in done["dropped"][str(bad)]


@needs_shared
@pytest.mark.parametrize(
    "path",
    [
        *sorted((SHARED / "bad").glob("*")),
        *sorted((SHARED / "single").glob("adobe-linear-*")),
        SHARED / "single" / "canon-6d-linear-lossy.dng",
        SHARED / "single" / "canon-g1-gmcy.crw",
    ],
    ids=lambda path: path.name,
)
def test_what_is_no_whole_bayer_raw_gets_one_line_and_no_output(path, tmp_path):
    _one_line(kpn("denoise", path, "-o", tmp_path / "out"), path.name)
    assert not (tmp_path / "out").exists()


@needs_shared
def test_a_static_burst_of_a_real_camera_beats_the_plain_mean(tmp_path):
    """The truth is the mean of 32 further frames; RMS error in DN over the interior."""
    import tifffile

    frames = sorted((SHARED / "pi-static").glob("frame_*.dng"))
    result = kpn("denoise", *frames, "-o", tmp_path, "--format", "dng", "--json")
    (burst,) = json.loads(result.stdout)["bursts"]
    info = read_info(frames[0])
    truth = tifffile.imread(SHARED / "pi-static" / "truth_mean_of_32.tif") / 32
    truth = bayer.pack((truth - 60) / (1023 - 60), info.phase)

    def error(out: np.ndarray) -> float:
        inner = (out - truth)[:, 16:-16, 16:-16]
        return 963 * float(np.sqrt(np.mean(np.square(inner))))

    mean = np.mean([read_planes(read_info(path)) for path in frames], axis=0)
    assert error(read_planes(read_info(burst["outputs"]["dng"]))) < error(mean)


# --- the other commands -----------------------------------------------------


def test_info_tells_camera_levels_and_noise(burst):
    frames, _ = burst
    document = json.loads(kpn("info", frames[0], "--json").stdout)
    (row,) = document["files"]
    assert (row["cfa"], row["white"], row["iso"]) == ("GRBG", 16383, 3450)
    assert row["noise"]["source"] == "profile"
    assert "GRBG" in kpn("info", frames[0]).stdout


def test_info_tells_the_noise_that_denoise_would_use(burst, tmp_path, weights):
    """Measured where the file's ISO says something else than its pixels."""
    info = read_info(burst[0][0])
    bare = tmp_path / "bare.dng"
    tags = replace(dng_tags.tags_of(info), noise=None, iso=100)
    dng_writer.write_cfa_dng(bare, read_mosaic(info), tags)
    (row,) = json.loads(kpn("info", bare, "--json").stdout)["files"]
    done = kpn("denoise", bare, "-o", tmp_path / "o", "--weights", weights, "--json",
               "--format", "dng")  # fmt: skip
    (result,) = json.loads(done.stdout)["bursts"]
    assert row["noise"] == result["noise"]
    assert row["noise"]["source"] == "measured"
    assert "measured from the frames" in kpn("info", bare).stdout


def test_info_goes_on_after_a_bad_file(burst, tmp_path):
    bad = tmp_path / "bad.dng"
    bad.write_bytes(b"II*\0")
    result = kpn("info", bad, burst[0][0])
    assert result.exit_code == 1
    assert "bad.dng" in result.stderr
    assert "GRBG" in result.stdout


def test_eval_writes_the_table_and_prints_json(tmp_path, weights):
    import cv2
    from pictures import photo

    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in (1, 2):
        cv2.imwrite(str(photos / f"{seed}.png"), photo(seed, 280, 300))
    command = ["eval", photos, "-o", tmp_path / "out", "--gains", "1,8", "--weights", weights]
    document = json.loads(kpn(*command, "--json").stdout)
    assert document["protocol"] == protocol.NAME
    for row in document["static"].values():
        # Of equal frames with independent noise, the mean has 9 dB over one; the gamma curve
        # and clipping at 0 and 1 take some.
        assert row["mean"]["psnr"] > row["reference"]["psnr"] + 5
        assert row["mean"] == row["aligned-mean"]
    assert json.loads((tmp_path / "out" / "eval.json").read_text()) == document
    table = (tmp_path / "out" / "eval.md").read_text()
    assert "| aligned-mean |" in table
    # Tables of other weights, frames or noise must not look alike.
    assert table.startswith(
        f"{weights} weights, 2 photos, bursts of 8, told 1 times the true sigma"
    )
    assert document["weights"] == str(weights)
    assert json.loads(kpn(*command, "--json").stdout) == document
    _one_line(kpn("eval", photos, "--gains", "3"), "--gains 3")


def test_train_writes_weights_that_denoise_and_resumes(burst, tmp_path):
    import cv2
    from pictures import photo

    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), photo(1, 300, 300))
    (photos / "b.png").write_bytes(b"no photo")
    run = tmp_path / "run"
    command = ["train", photos, "-o", run, "--batch", 1]
    first = kpn(*command, "--patches", 1)
    assert first.exit_code == 0, first.output
    assert "b.png" in first.stderr
    assert kpn(*command, "--patches", 2).exit_code == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["patches"] for line in lines] == [1, 2]
    last = run / "last.safetensors"
    assert kpn("denoise", *burst[0], "-o", tmp_path / "out", "--weights", last).exit_code == 0


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ([], 2),
        (["--no-mix"], 0),
        (["--no-mix", "--variant", "blind"], 0),
        (["--variant", "direct"], 0),
    ],
)
def test_train_mixes_planes_or_not(options, scales, tmp_path, weights):
    """The network that it begins with gets what it lacks."""
    import cv2
    from pictures import photo

    cv2.imwrite(str(tmp_path / "a.png"), photo(1, 280, 300))
    command = ["train", tmp_path / "a.png", "--batch", 1, "--patches", 1, *options]
    run = kpn(*command, "-o", tmp_path / "new")
    assert run.exit_code == 0, run.output
    assert load_weights(tmp_path / "new" / "last.safetensors")[0].config.scales == scales


def test_fine_tuning_adds_mixing_to_a_network_without(tmp_path, tiny_config):
    import cv2
    from pictures import photo

    cv2.imwrite(str(tmp_path / "a.png"), photo(1, 280, 300))
    before = tmp_path / "before.safetensors"
    save_weights(before, KPN(replace(tiny_config, scales=0)), {})
    command = ["train", tmp_path / "a.png", "--batch", 1, "--patches", 1, "--init", before]
    for options, scales in (([], 2), (["--no-mix"], 0)):
        run = kpn(*command, "-o", tmp_path / f"run{scales}", *options)
        assert run.exit_code == 0, run.output
        assert (
            load_weights(tmp_path / f"run{scales}" / "last.safetensors")[0].config.scales == scales
        )
    before.unlink()  # a run that is there goes on without
    again = kpn(*command, "--patches", 2, "-o", tmp_path / "run2")
    assert again.exit_code == 0, again.output
    mixing = tmp_path / "run2" / "last.safetensors"
    _one_line(kpn(*command[:-1], mixing, "-o", tmp_path / "no", "--no-mix"), "--no-mix")


def test_the_demo_shows_before_after_and_truth(tmp_path, weights):
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


@pytest.mark.parametrize("command", [["demo"], ["train", "photos"], ["eval", "photos"]])
def test_a_folder_that_cannot_be_made_is_an_error_for_the_user(command, tmp_path, weights):
    import cv2
    from pictures import photo

    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos" / "a.png"), photo(1, 280, 300))
    (tmp_path / "file").write_bytes(b"")
    words = [str(tmp_path / word) if word == "photos" else word for word in command]
    more = [] if command[0] == "train" else ["--weights", weights]
    if command[0] == "eval":
        more += ["--gains", "1"]
    _one_line(kpn(*words, "-o", tmp_path / "file" / "out", *more), "file")
