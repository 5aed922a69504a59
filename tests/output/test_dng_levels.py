"""Black and white levels of the mosaics, and noise at these levels."""

from __future__ import annotations

import numpy as np
import pytest
from dng_factory import write_dng
from dng_results import NOISE, identity, linear_samples
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from raw_files import BLACK, WHITE, rich_dng, scene

from kpn_cli.image.bayer import PHASES, pack
from kpn_cli.output.dng_levels import OUTPUT_BLACK, OUTPUT_WHITE, encode_planes
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
