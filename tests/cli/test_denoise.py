"""`kpn denoise` from end to end: the command line, its outputs and its errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import KPN_PROGRAM, assert_one_line, kpn
from marked_bursts import (
    CONSTANT,
    LIST,
    LISTED,
    PLACES,
    errors,
    excess,
    listed_burst,
    listing_camera,
    marked_burst,
)
from pictures import scene

from kpn_cli.evaluation import metrics
from kpn_cli.image import bayer
from kpn_cli.output import dng_levels, dng_tags, dng_writer
from kpn_cli.raw.reader import read_info, read_planes
from kpn_cli.synthesis import demo, protocol
from kpn_cli.tiff.reader import read_tree, walk

SHARED = Path(__file__).parents[3] / "shared" / "raw"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="../shared is not there")


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


@pytest.mark.parametrize("phase", bayer.PHASES)
@pytest.mark.parametrize("size", [(64, 80), (65, 79)])
def test_an_untrained_network_returns_one_frame_unchanged_for_any_phase_size_and_black(
    phase, size, averaging, tmp_path, rng
):
    """So any difference comes from reading or writing."""
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


def test_compression_changes_the_size_of_the_dng_but_no_sample(burst, weights, tmp_path):
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


def test_a_frame_of_another_scene_is_dropped_from_a_long_burst(weights, tmp_path):
    frames, _ = demo.write_demo_burst(scene(6, 260, 260), tmp_path / "in", frames=11)
    stranger, _ = demo.write_demo_burst(scene(7, 260, 260), tmp_path / "other", frames=1)
    planes = read_planes(read_info(stranger[0]))[:, ::-1]
    info = read_info(frames[4])
    mosaic, black, white = dng_levels.encode_planes(planes, info.phase, info.height, info.width)
    dng_writer.write_cfa_dng(frames[4], mosaic, dng_tags.tags_of(info, black=black, white=white))
    run = kpn("denoise", *frames, "-o", tmp_path, "--weights", weights, "--json",
              "--reference", "first")  # fmt: skip
    (result,) = json.loads(run.stdout)["bursts"]
    why = result["dropped"]
    assert "something else" in why.pop(str(frames[4]))
    # Hand-held with little noise, the best of ten frames beat all ten.
    assert len(result["frames"]) == 10 - len(why) >= 8
    assert all("agree better" in reason for reason in why.values())


def _identity(path: Path) -> tuple[int, int]:
    return path.stat().st_ino, path.stat().st_mtime_ns


def test_finished_outputs_are_kept_without_overwrite(burst, weights, tmp_path):
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
    "1e-3,1e-5"], ["--defects", "off"]]
)  # fmt: skip
def test_outputs_of_other_options_or_frames_are_an_error_and_not_replaced(
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
    assert_one_line(kpn(*changed), out.name, "--overwrite")
    assert out.read_bytes() == before
    assert kpn(*changed, "--overwrite").exit_code == 0
    assert out.read_bytes() != before


def test_only_missing_formats_are_written(burst, weights, tmp_path):
    frames, _ = burst
    command = ["denoise", *frames, "-o", tmp_path, "--weights", weights]
    assert kpn(*command, "--format", "srgb").exit_code == 0
    (there,) = tmp_path.iterdir()
    made = _identity(there)
    assert kpn(*command, "--format", "srgb,jpeg,dng").exit_code == 0
    assert _identity(there) == made
    assert len(list(tmp_path.iterdir())) == 3


def test_the_input_folder_can_be_the_output_folder_twice(burst, weights, tmp_path):
    for path in burst[0]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    command = ["denoise", tmp_path, "-o", tmp_path, "--weights", weights, "--format", "dng"]
    assert kpn(*command).exit_code == 0
    again = kpn(*command, "--overwrite", "--json")
    assert len(json.loads(again.stdout)["bursts"][0]["frames"]) == len(burst[0])


def test_the_source_of_the_noise_model_is_reported(burst, weights, tmp_path):
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


# --- defective pixels -------------------------------------------------------


def the_result(weights: Path, *arguments: object) -> dict:
    run = kpn("denoise", *arguments, "--no-group", "--weights", weights, "--format", "dng",
              "--json")  # fmt: skip
    assert run.exit_code == 0, run.output
    (result,) = json.loads(run.stdout)["bursts"]
    return result


@pytest.mark.parametrize("kind", [CONSTANT, LIST])
@pytest.mark.parametrize(
    ("frames", "options"),
    [(4, []), (4, ["--defects", "off"]), (4, ["--strength", "0"]), (1, []),
     (1, ["--strength", "0", "--defects", "off"])],
)  # fmt: skip
def test_pixels_that_the_files_mark_are_repaired_and_the_marks_left_out(
    kind, frames, options, averaging, tmp_path
):
    paths = marked_burst(tmp_path / "in", kind, frames)
    result = the_result(averaging, *paths, "-o", tmp_path, *options)
    assert result["defects"]["marked"] == len(PLACES)
    assert result["defects"]["listed"] == 0
    out = Path(result["outputs"]["dng"])
    info = read_info(out)
    linear = bayer.unpack(read_planes(info), info.phase, info.height, info.width)
    assert errors(linear).max() < 4
    tree = read_tree(out)
    assert not any(field.code == 51008 for ifd in walk(tree.ifds) for field in ifd)
    assert info.marked == ((), ())


def test_what_was_repaired_is_told_to_people_too(averaging, tmp_path):
    paths = marked_burst(tmp_path / "in", LIST)
    run = kpn("denoise", *paths, "--no-group", "-o", tmp_path, "--weights", averaging, "--report")
    assert run.exit_code == 0
    told = f"repaired {len(PLACES)} pixels ({len(PLACES)} marked by the file"
    assert told in run.stderr
    assert told in (tmp_path / "report.html").read_text("utf-8")


def test_marks_that_are_ignored_are_told(averaging, tmp_path):
    paths = marked_burst(tmp_path / "in", CONSTANT, frames=1)
    data = paths[0].read_bytes()
    paths[0].write_bytes(data.replace(b"\0\0\0\1\0\0\0\4\1\3", b"\0\0\0\7\0\0\0\4\1\3"))
    result = the_result(averaging, *paths, "-o", tmp_path)
    assert result["defects"]["marked"] == 0
    assert any("OpcodeList1 is damaged" in note for note in result["notes"])


def test_the_cameras_list_is_repaired_unless_defects_are_off(averaging, tmp_path):
    paths = listed_burst(tmp_path / "in")
    camera = listing_camera(tmp_path / "camera.json")
    command = [*paths, "--noise", camera, "--reference", "first", "-o"]
    found = {
        how: the_result(averaging, *command, tmp_path / how, "--defects", how)
        for how in ("auto", "off")
    }
    assert found["auto"]["defects"]["listed"] == len(LISTED)
    assert found["off"]["defects"] == dict.fromkeys(found["off"]["defects"], 0)
    auto, off = (
        excess(read_planes(read_info(result["outputs"]["dng"]))) for result in found.values()
    )
    assert np.abs(auto).max() < 4
    assert off.min() > 8


def test_a_list_for_pictures_of_another_size_is_not_used_with_a_warning(averaging, tmp_path):
    paths = listed_burst(tmp_path / "in", frames=1)
    camera = listing_camera(tmp_path / "camera.json", size=(238, 320))
    result = the_result(averaging, *paths, "--noise", camera, "-o", tmp_path)
    assert result["defects"]["listed"] == 0
    assert "lists defects of pictures of 320x238 pixels" in result["noise"]["warning"]


# --- errors -----------------------------------------------------------------


def test_a_frame_of_another_exposure_cannot_be_merged_by_force(burst, tmp_path):
    frames, _ = burst
    info = read_info(frames[0])
    odd = tmp_path / "ODD.dng"
    mosaic = np.random.default_rng(0).integers(4000, 9000, (info.height, info.width))
    dng_writer.write_cfa_dng(
        odd, mosaic.astype(np.uint16), replace(dng_tags.tags_of(info), iso=100)
    )
    result = kpn("denoise", *frames, odd, "-o", tmp_path / "out", "--no-group")
    assert_one_line(result, "ODD.dng", "ISO 100", "3450")
    assert not (tmp_path / "out").exists()


def test_an_output_never_replaces_an_input(burst, weights, tmp_path):
    frames, _ = burst
    copy = tmp_path / "a.dng"
    other = tmp_path / "a_kpn.dng"
    copy.write_bytes(frames[0].read_bytes())
    other.write_bytes(frames[1].read_bytes())
    result = kpn("denoise", copy, other, "-o", tmp_path, "--reference", "a.dng", "--overwrite",
                 "--weights", weights)  # fmt: skip
    assert_one_line(result, "a_kpn.dng", "input")
    assert other.read_bytes() == frames[1].read_bytes()


def test_a_missing_device_is_an_error(burst, tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert_one_line(kpn("denoise", *burst[0], "-o", tmp_path, "--device", "cuda"), "--device auto")


def test_a_damaged_weight_file_is_an_error(burst, tmp_path):
    wrong = tmp_path / "weights.safetensors"
    wrong.write_bytes(b"not weights")
    result = kpn("denoise", *burst[0], "-o", tmp_path / "out", "--weights", wrong)
    assert_one_line(result, "weights.safetensors")
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
def test_a_damaged_file_is_named_and_the_others_are_denoised(make, burst, weights, tmp_path):
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
def test_a_damaged_frame_is_dropped_from_its_burst_and_named(make, burst, weights, tmp_path):
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
def test_a_damaged_or_unsupported_raw_gets_one_line_and_no_output(path, tmp_path):
    assert_one_line(kpn("denoise", path, "-o", tmp_path / "out"), path.name)
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


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
@pytest.mark.parametrize("option", ["--noise", "--weights"])
def test_a_pipe_as_calibration_or_weights_is_refused_without_waiting_for_it(
    option, burst, tmp_path
):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    # A reader that waits gets these bytes and fails with other words, instead of hanging the test.
    end = os.open(pipe, os.O_RDWR)
    os.write(end, b"{}")
    patience = threading.Timer(5, os.close, [end])
    patience.start()
    run = kpn("denoise", burst[0][0], "-o", tmp_path / "out", option, pipe)
    if patience.is_alive():
        patience.cancel()
        os.close(end)
    assert_one_line(run, "pipe: cannot be read (not a regular file)")


# --- threads ----------------------------------------------------------------


def test_all_pools_have_the_threads_that_the_user_allows(burst, weights, tmp_path):
    """Whatever the environment says. `--noise S,O` loads NumPy before the option is known."""
    code = """
import json, os, sys
os.sched_getaffinity = lambda _: set(range(8))
from kpn_cli.cli.app import main
main(sys.argv[1:], standalone_mode=False)
import cv2, threadpoolctl, torch
from kpn_cli.system import threads
pools = {pool["prefix"]: pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
print(json.dumps({
    "own": threads.usable_cores(), "torch": torch.get_num_threads(), "cv2": cv2.getNumThreads(),
    "child": os.environ["OMP_NUM_THREADS"], **pools,
}))
"""
    command = ["denoise", *burst[0][:2], "-o", tmp_path, "--weights", weights, "--threads", "1"]
    command += ["--format", "jpeg", "-q", "--noise", "1e-4,1e-6"]
    variables = [name for name in os.environ if not name.endswith("_NUM_THREADS")]
    environment = {name: os.environ[name] for name in variables} | {"OMP_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, command)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(run.stdout.splitlines()[-1])
    assert found.pop("child") == "1"
    assert set(found.values()) == {1}
    assert {"own", "torch", "cv2", "libgomp"} <= set(found) or sys.platform != "linux"
