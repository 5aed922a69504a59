"""Outputs never replace another file by accident, and claim nothing that is not known."""

from __future__ import annotations

import threading
from pathlib import Path

import exifread
import numpy as np
import pytest
import tifffile
from cards import denoised, digests, write_bursts, write_frame
from dng_factory import write_dng
from PIL import Image
from raw_files import BLACK, WHITE, scene

from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.image.srgb import srgb_encode
from kpn_cli.merge.merge import Denoised
from kpn_cli.output import develop, dng_writer
from kpn_cli.pipeline import denoise, fingerprint, loading, outputs
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.reader import read_capture, read_info, read_planes


def test_the_result_of_a_photo_without_a_time_has_none(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0, captured=None)
    how = ("--format", "dng,srgb,jpeg", "--weights", weights)
    document = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", *how)
    (result,) = document["bursts"]
    for path in result["outputs"].values():
        with open(path, "rb") as file:
            times = {tag for tag in exifread.process_file(file) if "DateTime" in tag}
        assert not times
    assert read_capture(Path(result["outputs"]["dng"])).captured is None


def test_bursts_that_race_for_a_name_never_replace_each_other(tmp_path, weights):
    loaded = []
    for n, folder in enumerate(("a", "b")):
        write_bursts(tmp_path / folder, 1 + n)
        options = Options(
            tmp_path / "out", formats=("dng", "srgb", "jpeg"), reference="first", weights=weights
        )
        files = sorted((tmp_path / folder).iterdir())[-2:]
        for path in files:
            path.rename(path.with_name(f"IMG_{path.name[-5:]}"))
        files = sorted((tmp_path / folder).glob("IMG_?.dng"))
        loaded.append(loading.load_burst(files, options, fingerprint.options_digest(options)))
    engine = denoise.Engine(options)
    computed = [denoise.compute(each, options, engine) for each in loaded]
    first = denoise.write_computed(computed[0], options)
    before = digests(tmp_path / "out")
    with pytest.raises(KpnError, match="already exists: another process"):
        denoise.write_computed(computed[1], options)
    assert digests(tmp_path / "out") == before
    assert len(before) == len(first.outputs) == 3


@pytest.mark.parametrize(("strength", "said"), [("0", None), ("0.5", (1, 2)), ("3", (1, 1))])
def test_a_dng_tells_how_much_noise_reduction_there_was(tmp_path, weights, strength, said):
    write_frame(tmp_path / "a.dng", 0)
    how = ("--format", "dng", "--weights", weights, "--strength", strength)
    (done,) = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", *how)["bursts"]
    with tifffile.TiffFile(done["outputs"]["dng"]) as file:
        tags = file.pages[0].pages[0].tags
        assert (tags[50935].value if 50935 in tags else None) == said


def test_what_is_damaged_in_the_tags_of_the_reference_is_told(tmp_path, weights):
    extra = [(700, 1, 7, b"<broken", True), (50718, 5, 2, (1, 1, 0, 1), True)]
    write_dng(tmp_path / "a.dng", scene(64, 80), black=(BLACK,), white=WHITE, extra=extra)
    how = ("--format", "dng", "--weights", weights, "--noise", "1e-4,1e-6")
    (done,) = denoised(tmp_path / "a.dng", "-o", tmp_path / "out", *how)["bursts"]
    words = ("DefaultScale", "XMP is left out")
    assert [word in note for word, note in zip(words, done["notes"], strict=True)] == [True, True]


def computed_burst(tmp_path, weights):
    write_frame(tmp_path / "a.dng", 0)
    options = Options(tmp_path / "out", formats=("dng", "srgb"), weights=weights)
    digest = fingerprint.options_digest(options)
    loaded = loading.load_burst([tmp_path / "a.dng"], options, digest)
    return denoise.compute(loaded, options, denoise.Engine(options)), options


def test_the_dng_and_the_pictures_are_written_at_once(monkeypatch, tmp_path, weights):
    computed, options = computed_burst(tmp_path, weights)
    both = threading.Barrier(2)
    write_dng, bands = dng_writer.write_denoised_dng, develop.develop_bands

    def wait_and_write(*arguments, **how):
        both.wait(20)
        return write_dng(*arguments, **how)

    def wait_and_develop(info, planes, **how):
        if "orientation" not in how:  # not the preview
            both.wait(20)
        return bands(info, planes, **how)

    monkeypatch.setattr(dng_writer, "write_denoised_dng", wait_and_write)
    monkeypatch.setattr(develop, "develop_bands", wait_and_develop)
    done = denoise.write_computed(computed, options)
    assert all(path.stat().st_size for path in done.outputs.values())


@pytest.mark.parametrize("failing", ["dng", "srgb", "both"])
def test_if_one_output_fails_the_other_is_whole_and_the_error_about_the_dng_comes_first(
    monkeypatch, tmp_path, weights, failing
):
    computed, options = computed_burst(tmp_path, weights)

    def fail(name):
        def work(*_, **__):
            raise KpnError(f"{name}: disk full")

        return work

    if failing != "srgb":
        monkeypatch.setattr(dng_writer, "write_denoised_dng", fail("dng"))
    if failing != "dng":
        monkeypatch.setattr(develop, "to_srgb", fail("srgb"))
    with pytest.raises(KpnError, match="srgb" if failing == "srgb" else "dng"):
        denoise.write_computed(computed, options)
    written = {"dng": {"a_kpn_srgb.tif"}, "srgb": {"a_kpn.dng"}, "both": set()}[failing]
    assert {path.name for path in (tmp_path / "out").iterdir()} == written


def test_after_a_failure_no_thread_is_left_to_the_garbage_collector(tmp_path, monkeypatch):
    closed = []

    def bands(*_, **__):
        try:
            yield np.zeros((96, 128, 3), np.uint16)
            yield np.zeros((96, 128, 3), np.uint16)
        finally:
            closed.append(True)

    def fail(*_, **__):
        raise KpnError("disk full")

    monkeypatch.setattr(outputs.develop, "develop_bands", bands)
    monkeypatch.setattr(outputs.develop, "to_srgb", fail)
    info = read_info(write_dng(tmp_path / "a.dng", scene(96, 128), black=(BLACK,), white=WHITE))
    paths = outputs.output_paths(tmp_path / "a.dng", tmp_path, ("srgb",))
    how = {"compression": "none", "fingerprint": bytes(16), "replace": False, "strength": 1}
    with pytest.raises(KpnError, match="disk full") as raised:
        outputs.write_outputs(info, Denoised(read_planes(info), 0.25), None, paths, **how)
    assert raised.traceback  # which holds what was not closed
    assert closed == [True]


# --- brighter than the reference ------------------------------------------------------


def written(source: Path, folder: Path, *, white: float = 1.0, **options) -> dict[str, Path]:
    """Write the planes of a photo as its result."""
    info = read_info(source)
    folder.mkdir()
    names = ("dng", "linear", "srgb", "jpeg")
    paths = outputs.output_paths(source, folder, names)
    result = Denoised(read_planes(info), 0.25, white=white)
    how = {"compression": "none", "fingerprint": bytes(range(16)), "replace": False, "strength": 1}
    outputs.write_outputs(info, result, NoiseModel.uniform(1e-4, 1e-6), paths, **how, **options)
    return paths


def grey(path: Path) -> float:
    """Mean brightness of a picture, linear, 0 to 1; of a DNG of its preview."""
    if path.suffix == ".dng":
        with tifffile.TiffFile(path) as file:
            picture = file.pages[0].pages[1].asarray()
    else:
        picture = np.asarray(Image.open(path)) if path.suffix == ".jpg" else tifffile.imread(path)
    shares = picture / np.iinfo(picture.dtype).max
    if "linear" not in path.name:
        curve = srgb_encode(np.arange(65536) / 65535)
        shares = np.interp(shares, curve, np.arange(65536) / 65535)
    return float(shares.mean())


def exposure_and_noise(path: Path) -> tuple[float, tuple[float, ...]]:
    with tifffile.TiffFile(path) as file:
        over, under = file.pages[0].tags[50730].value if 50730 in file.pages[0].tags else (0, 1)
        return over / under, file.pages[0].pages[0].tags[51041].value


@pytest.fixture
def dark(tmp_path, monkeypatch) -> Path:
    """A photo that is an eighth as bright as others."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    path = tmp_path / "a.dng"
    tags = {"black": (BLACK,), "white": WHITE}
    exif = {33434: (5, (1 / 250,)), 34855: (3, (400,))}
    return write_dng(path, BLACK + (scene(96, 128) - BLACK) // 8, exif=exif, **tags)


def test_a_lift_brightens_all_pictures_once_and_changes_no_sample_of_the_dng(tmp_path, dark):
    plain = written(dark, tmp_path / "plain")
    lifted = written(dark, tmp_path / "lifted", lift=2.0)
    for name, path in lifted.items():
        assert grey(path) == pytest.approx(4 * grey(plain[name]), rel=0.02)
    planes = [read_planes(read_info(paths["dng"])) for paths in (plain, lifted)]
    np.testing.assert_array_equal(*planes)
    (before, noise), (after, same) = map(exposure_and_noise, (plain["dng"], lifted["dng"]))
    assert (before, after) == (0, 2)
    assert noise == same
    info = read_info(lifted["dng"])
    assert (info.exposure_time, info.iso) == (1 / 250, 400)


def test_headroom_changes_the_scale_of_the_dng_and_no_picture(tmp_path, dark):
    plain = written(dark, tmp_path / "plain")
    roomy = written(dark, tmp_path / "roomy", white=8.0)
    for name in ("linear", "srgb", "jpeg"):
        assert roomy[name].read_bytes() == plain[name].read_bytes()
    assert grey(roomy["dng"]) == grey(plain["dng"])
    (_, noise), (exposure, scaled) = map(exposure_and_noise, (plain["dng"], roomy["dng"]))
    assert exposure == 3
    np.testing.assert_allclose(np.array(scaled) * ((8, 64) * 3), noise, rtol=1e-6)
    planes = [read_planes(read_info(paths["dng"])) for paths in (plain, roomy)]
    assert np.abs(8 * planes[1] - planes[0]).max() < 9 / 61439


def test_without_lift_and_headroom_all_bytes_are_the_same(tmp_path, dark):
    written(dark, tmp_path / "plain")
    written(dark, tmp_path / "stated", white=1.0, lift=0.0)
    assert digests(tmp_path / "plain") == digests(tmp_path / "stated")
    assert exposure_and_noise(tmp_path / "plain" / "a_kpn.dng")[0] == 0
