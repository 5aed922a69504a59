"""Our lossless JPEG is what decoders that are not ours read, to the bit."""

from __future__ import annotations

import imagecodecs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kpn_cli import ljpeg


def decoded(data: bytes, shape: tuple[int, int]) -> np.ndarray:
    """liblj92's reading: two components side by side are the mosaic's columns."""
    return imagecodecs.ljpeg_decode(data).reshape(shape)


@st.composite
def mosaics(draw):
    shape = draw(st.integers(1, 12)), 2 * draw(st.integers(1, 8))
    # Few values make every kind of step likely, 2^15 included, whose 16 bits aren't written.
    values = draw(st.lists(st.integers(0, 65535), min_size=1, max_size=4))
    values += draw(st.sampled_from([[], [0, 32768], [0, 65535], [32767, 65535]]))
    return draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from(values)))


@given(mosaics())
def test_what_is_encoded_decodes_to_the_same(mosaic):
    np.testing.assert_array_equal(decoded(ljpeg.encode(mosaic), mosaic.shape), mosaic)


@pytest.mark.parametrize("spread", [0, 1, 30, 1000, 30000])
def test_noise_of_every_strength_decodes_to_the_same(rng, spread):
    noise = 32768 + spread * rng.standard_normal((128, 96))
    mosaic = np.clip(noise, 0, 65535).astype(np.uint16)
    np.testing.assert_array_equal(decoded(ljpeg.encode(mosaic), mosaic.shape), mosaic)


def test_steps_as_rare_as_fibonaccis_numbers_get_codes_that_jpeg_allows():
    # Such frequencies make the longest Huffman codes: 16 of them without a limit.
    counts, steps = [1, 1], []
    while len(counts) < 17:
        counts.append(counts[-1] + counts[-2])
    for bits, count in enumerate(counts):
        steps += [(1 << bits) >> 1] * count
    samples = (32768 + np.cumsum(steps, dtype=np.int64)).astype(np.uint16)
    mosaic = np.stack([samples, np.full_like(samples, 32768)], axis=1).reshape(1, -1)
    data = ljpeg.encode(mosaic)
    lengths = data[7:23]  # behind SOI, DHT's marker, its length and number
    assert len(lengths) == 16
    assert sum(lengths) == 17
    np.testing.assert_array_equal(decoded(data, mosaic.shape), mosaic)


def test_a_view_is_encoded_as_it_looks_and_left_as_it_is(rng):
    whole = rng.integers(0, 65536, (40, 50), dtype=np.uint16)
    before, view = whole.copy(), whole[3:33:2, 10:42]
    np.testing.assert_array_equal(decoded(ljpeg.encode(view), view.shape), view)
    np.testing.assert_array_equal(whole, before)


def test_predictor_and_components_are_those_that_every_reader_takes():
    data = ljpeg.encode(np.zeros((4, 6), np.uint16))
    frame, scan = data.index(b"\xff\xc3"), data.index(b"\xff\xda")
    assert data[frame + 4 : frame + 10] == bytes((16, 0, 4, 0, 3, 2))  # bits, rows, columns
    assert data[scan + 9] == 1  # the predictor, behind count, two components' tables


def test_an_even_mosaic_takes_a_bit_a_sample():
    assert len(ljpeg.encode(np.full((256, 256), 777, np.uint16))) < 256 * 256 / 8 + 100
