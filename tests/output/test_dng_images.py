"""The mosaic in a DNG is what a decoder unrelated to the encoder reads, to the bit."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
import rawpy
import tifffile
from dng_factory import write_dng
from dng_results import identity
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from raw_files import BLACK, WHITE, scene

from kpn_cli.output.dng_images import mosaic_ifd
from kpn_cli.tiff.fields import Ifd
from kpn_cli.tiff.reader import integers


def tiles(ifd: Ifd) -> list[bytes]:
    return next([bytes(piece) for piece in tag.data.segments] for tag in ifd if tag.code == 324)


def decoded(ifd: Ifd) -> np.ndarray:
    """liblj92's reading: two components side by side are a tile's columns."""
    width, height, tile_width, tile_height = (
        integers(ifd, code)[0] for code in (256, 257, 322, 323)
    )
    shape = tile_height, tile_width
    found = [imagecodecs.ljpeg_decode(tile).reshape(shape) for tile in tiles(ifd)]
    across = -(-width // tile_width)
    rows = [np.hstack(found[at : at + across]) for at in range(0, len(found), across)]
    return np.vstack(rows)[:height, :width]


def check(mosaic: np.ndarray) -> None:
    ifd = mosaic_ifd(mosaic, "lossless")
    assert integers(ifd, 259) == (7,)
    np.testing.assert_array_equal(decoded(ifd), mosaic)


@st.composite
def mosaics(draw):
    shape = draw(st.integers(2, 24)), draw(st.integers(16, 48))
    # Few values make every kind of step likely, 2^15 included, whose 16 bits aren't written.
    values = draw(st.lists(st.integers(0, 65535), min_size=1, max_size=4))
    values += draw(st.sampled_from([[], [0, 32768], [0, 65535], [32767, 65535]]))
    return draw(hnp.arrays(np.uint16, shape, elements=st.sampled_from(values)))


@given(mosaics())
def test_any_mosaic_decodes_to_itself(mosaic):
    check(mosaic)


@pytest.mark.parametrize("spread", [0, 1, 30, 1000, 30000])
@pytest.mark.parametrize("shape", [(128, 96), (45, 67), (600, 1030)])
def test_noise_of_every_strength_decodes_to_itself(rng, spread, shape):
    noise = 32768 + spread * rng.standard_normal(shape)
    check(np.clip(noise, 0, 65535).astype(np.uint16))


def test_a_view_is_encoded_correctly_and_not_modified(rng):
    whole = rng.integers(0, 65536, (40, 50), dtype=np.uint16)
    before, view = whole.copy(), whole[3:33:2, 10:42]
    check(view)
    np.testing.assert_array_equal(whole, before)


def test_predictor_and_components_are_those_that_every_reader_supports():
    (data,) = tiles(mosaic_ifd(np.zeros((16, 32), np.uint16), "lossless"))
    frame, scan = data.index(b"\xff\xc3"), data.index(b"\xff\xda")
    assert data[frame + 4 : frame + 10] == bytes((16, 0, 16, 0, 16, 2))  # bits, rows, columns
    assert data[scan + 9] == 1  # the predictor, behind count, two components' tables


def test_a_uniform_mosaic_takes_one_bit_per_sample():
    (data,) = tiles(mosaic_ifd(np.full((256, 256), 777, np.uint16), "lossless"))
    assert len(data) < 256 * 256 / 8 + 100


def test_a_thumbnail_is_small_and_the_preview_large_enough_to_judge_by(tmp_path):
    source = write_dng(tmp_path / "a.dng", scene(1500, 3000), black=(BLACK,), white=WHITE)
    output = identity(source, tmp_path / "b.dng")
    with tifffile.TiffFile(output) as file:
        assert file.pages[0].shape == (128, 256, 3)
        assert file.pages[0].pages[1].shape == (750, 1500, 3)
    with rawpy.imread(str(output)) as raw:
        shown = Image.open(io.BytesIO(raw.extract_thumb().data))
    assert shown.size == (1500, 750)
