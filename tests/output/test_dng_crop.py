"""Previews and new DNGs show what the tags of the mosaic, or the camera, say."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from dng_factory import write_dng
from dng_results import identity
from raw_files import BLACK, WHITE, nef, scene

from kpn_cli.output.dng_crop import MARGIN, Area, crop_preview, crop_tags, visible_area_of
from kpn_cli.tiff import fields
from kpn_cli.tiff.reader import fractions, integers

PICTURE = np.arange(160 * 210 * 3).reshape(160, 210, 3).astype(np.uint8)
WHOLE = Area(0, 0, 160, 210)
CROP = (fields.integer_field(50719, 10, 4), fields.integer_field(50720, 20, 16))


@pytest.mark.parametrize("area", [(), (6,), (6, 8), (6, 8, 166, 218)])
def test_the_crop_counts_from_an_active_area_that_is_whole(area):
    ifd = CROP + ((fields.integer_field(50829, *area),) if area else ())
    info = SimpleNamespace(origin=(6, 8) if len(area) == 4 else (0, 0), height=160, width=210)
    shown, notes = crop_preview(PICTURE, ifd, visible_area_of(ifd, info))
    np.testing.assert_array_equal(shown, PICTURE[4:20, 10:30])
    assert not notes


def test_the_users_crop_is_a_part_of_the_default_crop():
    ifd = (*CROP, fields.rational_field(51125, 0.25, 0.1, 0.75, 1))  # top, left, bottom, right
    shown, notes = crop_preview(PICTURE, ifd, WHOLE)
    np.testing.assert_array_equal(shown, PICTURE[8:16, 12:30])
    assert not notes


@pytest.mark.parametrize(
    ("scale", "shape"),
    [((1, 2), (320, 210)), ((0.5, 1), (320, 210)), ((2, 1), (160, 420)), ((3, 3), (160, 210))],
)
def test_a_preview_has_square_pixels(scale, shape):
    shown, notes = crop_preview(PICTURE, (fields.rational_field(50718, *scale),), WHOLE)
    assert shown.shape == (*shape, 3)
    assert not notes


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ((fields.rational_field(50718, 1, 0),), "DefaultScale"),
        ((fields.rational_field(50718, 1, 99),), "DefaultScale"),
        ((fields.rational_field(50718, 1),), "DefaultScale is damaged"),
        ((fields.rational_field(51125, 0.5, 0, 0.5, 1),), "DefaultUserCrop"),
        ((fields.rational_field(51125, 0, 0, 1, 1.5),), "DefaultUserCrop"),
        ((fields.rational_field(51125, 0, 0, 1),), "DefaultUserCrop is damaged"),
        ((fields.integer_field(50720, 20),), "DefaultCropSize is damaged"),
        ((fields.integer_field(50720, 0, 0),), "default crop"),
        ((fields.integer_field(50719, 500, 500), fields.integer_field(50720, 20, 16)), "all of"),
    ],
)
def test_an_absurd_tag_is_ignored_with_a_line(tags, words):
    shown, notes = crop_preview(PICTURE, tags, WHOLE)
    np.testing.assert_array_equal(shown, PICTURE)
    assert [words in note for note in notes] == [True]


def test_a_crop_beyond_the_picture_is_shown_as_far_as_there_is_one():
    ifd = (fields.integer_field(50719, 10, 4), fields.integer_field(50720, 900, 900))
    shown, notes = crop_preview(PICTURE, ifd, WHOLE)
    np.testing.assert_array_equal(shown, PICTURE[4:, 10:])
    assert len(notes) == 1


def test_the_preview_of_a_dng_follows_its_tags(tmp_path):
    extra = [(50718, 5, 2, (1, 1, 2, 1), True), (51125, 5, 4, (0, 1, 0, 1, 1, 1, 1, 2), True)]
    write_dng(tmp_path / "a.dng", scene(160, 264), black=(BLACK,), white=WHITE, extra=extra)
    with tifffile.TiffFile(identity(tmp_path / "a.dng", tmp_path / "b.dng")) as file:
        assert file.pages[0].pages[1].shape == (320, 132, 3)


# --- new DNGs ---------------------------------------------------------------------------


def tags_of_new(crop=None, aspect=1.0, height=160, width=264):
    info = SimpleNamespace(crop=crop, pixel_aspect=aspect, height=height, width=width)
    ifd = crop_tags(info)
    return integers(ifd, 50719), integers(ifd, 50720), fractions(ifd, 50718)


def test_the_crop_of_a_new_dng_is_the_cameras():
    assert tags_of_new((6, 8, 140, 240)) == ((8, 6), (240, 140), ())


def test_demosaicing_has_its_margin_at_every_edge():
    assert tags_of_new() == ((MARGIN, MARGIN), (264 - 2 * MARGIN, 160 - 2 * MARGIN), ())
    assert tags_of_new((0, 8, 160, 256)) == ((8, MARGIN), (256 - MARGIN, 160 - 2 * MARGIN), ())


def test_a_tiny_mosaic_has_no_margin_to_spare():
    assert tags_of_new(height=8) == ((), (), ())


def test_pixels_that_are_not_square_have_a_scale():
    assert tags_of_new(aspect=0.5)[2] == (1, 2)
    assert tags_of_new(aspect=2.0)[2] == (2, 1)


def test_the_mosaic_of_a_new_dng_is_whole_and_its_preview_is_cropped(tmp_path):
    output = identity(nef(tmp_path / "a.nef", scene(160, 264)), tmp_path / "b.dng")
    with tifffile.TiffFile(output) as file:
        raw, shown = file.pages[0].pages[0], file.pages[0].pages[1]
        tags = {tag.code: tag.value for tag in raw.tags}
        assert raw.shape == (160, 264)
        assert shown.shape == (160 - 2 * MARGIN, 264 - 2 * MARGIN, 3)
    assert (tags[50719], tags[50720]) == ((MARGIN, MARGIN), (260, 156))
