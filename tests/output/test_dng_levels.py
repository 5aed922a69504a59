"""Black and white levels of the mosaics, and noise at these levels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from dng_factory import write_dng
from dng_results import NOISE, identity, linear_samples, rendered
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from raw_files import BLACK, WHITE, nef, rich_dng, scene

from kpn_cli.image.bayer import PHASES, pack
from kpn_cli.output.develop import develop, preview
from kpn_cli.output.dng_levels import OUTPUT_BLACK, OUTPUT_WHITE, encode_planes
from kpn_cli.output.dng_writer import write_denoised_dng
from kpn_cli.raw.reader import read_info, read_planes

STEP = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)


@st.composite
def sizes(draw):
    return draw(st.integers(2, 9)), draw(st.integers(2, 9))


@given(data=st.data(), phase=st.sampled_from(PHASES), size=sizes())
def test_encoded_planes_read_back_within_half_a_step(data, phase, size):
    mosaic = data.draw(hnp.arrays(np.float32, size, elements=st.floats(-0.0625, 1, width=32)))
    planes = pack(mosaic, phase)
    encoded, black, white = encode_planes(planes, phase, *size)
    assert encoded.dtype == np.uint16
    assert encoded.shape == size
    decoded = (pack(encoded, phase).astype(np.float64) - black) / (white - black)
    assert np.abs(decoded - planes).max() <= 0.5 * STEP * 1.02  # float32 takes its share


@given(phase=st.sampled_from(PHASES), size=sizes(), value=st.sampled_from([1.5, -1.0, 1.0, 0.0]))
def test_encoding_clips_at_white_and_at_the_bottom_of_the_pedestal(phase, size, value):
    planes = pack(np.full(size, value, np.float32), phase)
    encoded, black, white = encode_planes(planes, phase, *size)
    assert (encoded == {1.5: white, -1.0: 0, 1.0: white, 0.0: black}[value]).all()


def test_the_mean_of_noise_around_black_survives_encoding():
    planes = np.random.default_rng(0).normal(0, 0.01, (4, 100, 100)).astype(np.float32)
    encoded, black, white = encode_planes(planes, "RGGB", 200, 200)
    mean = (encoded.mean() - black) / (white - black)
    assert mean == pytest.approx(planes.mean(), abs=STEP / 10)


def test_black_levels_that_differ_keep_their_distances(tmp_path):
    black = (520.25, 512, 490.5, 530)
    source = write_dng(
        tmp_path / "a.dng", scene(141, 211), black=black, black_repeat=(2, 2), white=WHITE,
        active_area=(6, 8, 137, 205),
    )  # fmt: skip
    output = identity(source, tmp_path / "b.dng")
    before, after = read_info(source), read_info(output)
    scale = (OUTPUT_WHITE - OUTPUT_BLACK) / (WHITE - max(black))
    np.testing.assert_allclose(np.diff(after.black), np.diff(before.black) * scale, atol=1)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(read_planes(after) - read_planes(before)).max() <= 1.01 * step


def test_black_that_differs_by_row_and_column_is_subtracted_once(tmp_path, rng):
    """In masked borders, the delta of the row alone, and the mean of the columns'."""
    clean = scene(141, 211).astype(float)
    rows, columns = np.round(rng.uniform(0, 30, 131), 2), np.round(np.linspace(0, 120, 197), 2)
    deltas = np.zeros(clean.shape)
    deltas[6:137, 8:205] = rows[:, None] + columns
    mosaic = np.rint(clean + deltas).astype(np.uint16)
    extra = [
        (tag, 10, len(values), tuple(part for v in values for part in (round(100 * v), 100)), True)
        for tag, values in ((50716, rows), (50715, columns))
    ]
    options = {"black": (BLACK,), "white": WHITE, "active_area": (6, 8, 137, 205)}
    source = write_dng(tmp_path / "a.dng", mosaic, extra=extra, **options)
    output = identity(source, tmp_path / "b.dng")
    with tifffile.TiffFile(output) as tif:
        tags = tif.pages[0].pages[0].tags
        assert 50715 not in tags and 50716 not in tags
        assert len(tags[50714].value) == 4
    linear, _ = linear_samples(output)
    largest = BLACK + (rows.max() + columns.max())
    expected = (mosaic - deltas - BLACK) / (WHITE - largest)
    inside = slice(6, 137), slice(8, 205)
    # Each plane has its own largest black, a little below that of the whole.
    np.testing.assert_allclose(linear[inside], expected[inside], atol=2e-4)
    left = slice(6, 137), slice(0, 8)
    above_black = mosaic[left] - BLACK - rows[:, None] - columns.mean()
    np.testing.assert_allclose(linear[left], above_black / (WHITE - largest), atol=2e-4)


def test_shadows_below_black_are_kept(tmp_path, rng):
    mosaic = np.rint(rng.normal(BLACK, 20, (96, 128))).astype(np.uint16)
    source = write_dng(tmp_path / "a.dng", mosaic, black=(BLACK,), white=WHITE)
    linear, frame = linear_samples(identity(source, tmp_path / "b.dng"))
    assert frame.min() > 0
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert linear.mean() == pytest.approx((mosaic.mean() - BLACK) / (WHITE - BLACK), abs=step)


def test_the_noise_profile_is_for_samples_from_black_to_white(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    info = read_info(identity(tmp_path / "a.dng", tmp_path / "b.dng"))
    np.testing.assert_allclose(info.noise_profile.shot, NOISE.shot, rtol=1e-6)
    np.testing.assert_allclose(info.noise_profile.read, NOISE.read, rtol=1e-6)


def test_the_noise_profile_allows_for_black_levels_that_differ(tmp_path):
    """Samples of planes whose black lies deeper are larger in the file's own numbers."""
    black = (100, 512, 512, 900)
    source = write_dng(
        tmp_path / "a.dng", scene(64, 80), black=black, black_repeat=(2, 2), white=WHITE,
    )  # fmt: skip
    info = read_info(source)
    after = read_info(identity(source, tmp_path / "b.dng"))
    # The same noise in DN of the source, whoever says it: variance at a sample of 0.3.
    for plane in range(4):
        scale = {i: i.white - i.black[plane] for i in (info, after)}
        step = (OUTPUT_WHITE - OUTPUT_BLACK) / (WHITE - max(black))
        before = (NOISE.shot[plane] * 0.3 + NOISE.read[plane]) * (scale[info] * step) ** 2
        model = after.noise_profile
        signal = 0.3 * scale[info] * step / scale[after]
        said = (model.shot[plane] * signal + model.read[plane]) * scale[after] ** 2
        assert said == pytest.approx(before, rel=0.01)


# --- sources that do not state where they saturate ------------------------------------


def saturating_nef(path: Path, green: int, others: int, brightest: float = 3.0) -> Path:
    """A grey gradient in daylight, with an even surface of 0.18, whose channels saturate."""
    rng = np.random.default_rng(0)
    signal = np.broadcast_to(np.linspace(0.05, brightest, 384), (128, 384)).copy()
    signal[:, :80] = 0.18
    signal[0::2, 0::2] /= 2.178  # D750 in daylight
    signal[1::2, 1::2] /= 1.221
    values = 600 + 64935 * signal
    values += rng.normal(0, 1, values.shape) * np.sqrt(20 * 64935 * signal + 900)
    limit = np.full(values.shape, float(green))
    limit[0::2, 0::2] = limit[1::2, 1::2] = others
    return nef(path, np.rint(np.minimum(values, limit)).astype(np.uint16))


@pytest.mark.parametrize(("green", "others"), [(65535, 65535), (63000, 65535), (61247, 61247)])
def test_white_of_makers_formats_loses_nothing_and_keeps_grey_and_highlights(
    tmp_path, green, others
):
    source = saturating_nef(tmp_path / "a.nef", green, others)
    info = read_info(source)
    clipped = min(green, others)
    assert info.saturation == (None if clipped == 65535 else clipped)
    output = identity(source, tmp_path / "b.dng")
    # Every sample is in the file.
    written = read_planes(read_info(output))
    before = read_planes(info)
    scale = (clipped - 600) / (65535 - 600)
    assert np.abs(written * scale - before).max() <= 2 * STEP
    # Grey is as bright as in the source: in readers that follow BaselineExposure, and in ours.
    grey, bright = (slice(30, 90), slice(10, 70)), (slice(30, 90), slice(350, 380))
    gains = [info.white_balance[0], 1, info.white_balance[2], 1]
    wanted = rendered(source, use_camera_wb=False, user_wb=gains, user_flip=0)
    with tifffile.TiffFile(output) as tif:
        tag = tif.pages[0].tags.get(50730)
        over, under = tag.value if tag else (0, 1)
    exposure = 2 ** (over / under)
    edited = rendered(output, user_flip=0) * exposure
    ours = develop(replace(info, orientation=1), before, linear=True)
    for picture in (edited, ours):
        np.testing.assert_allclose(picture[grey].mean((0, 1)), wanted[grey].mean((0, 1)), rtol=0.01)
        # Clipped areas are neutral.
        highlights = picture[bright].mean((0, 1))
        np.testing.assert_allclose(highlights, 65535 * scale, rtol=1e-3)


def test_an_estimated_balance_is_not_written_as_the_cameras(tmp_path):
    source = nef(tmp_path / "a.nef", scene(64, 80))
    info = replace(read_info(source), balance_is_estimated=True)
    planes = read_planes(info)
    write_denoised_dng(tmp_path / "b.dng", info, None, planes, preview(info, planes))
    with tifffile.TiffFile(tmp_path / "b.dng") as tif:
        assert 50728 not in tif.pages[0].tags
