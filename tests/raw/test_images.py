"""Of several raw images in a file, those of one size and exposure are frames; each is found."""

from __future__ import annotations

import numpy as np
import pytest
from raw_files import BLACK, cfa_image, dng_of_images, raw_of_images, scene

from kpn_cli.errors import KpnError
from kpn_cli.raw import images, reader
from kpn_cli.raw.decoder_process import Decoder
from kpn_cli.raw.reader import read_frame, read_info, read_raw
from kpn_cli.raw.tags import Metadata, Tag
from kpn_cli.tiff import fields

MOSAICS = [scene(48, 64) + np.uint16(100 * n) for n in range(4)]


def test_each_image_of_a_dng_is_read_with_its_own_levels(tmp_path):
    levels = [fields.rational_field(50714, BLACK + n) for n in range(4)]
    path = dng_of_images(
        tmp_path / "a.dng", *(cfa_image(m, level) for m, level in zip(MOSAICS, levels, strict=True))
    )
    for number, expected in enumerate(MOSAICS):
        info, mosaic = read_raw(path, number)
        assert (info.images, info.image, info.black[0]) == (4, number, BLACK + number)
        assert info.frame.name == f"a.dng#{number}"
        np.testing.assert_array_equal(mosaic, expected)
        np.testing.assert_array_equal(read_frame(info), expected)
    assert read_info(path).notes == ("the file holds 4 raw images; they are taken for a burst",)
    with pytest.raises(KpnError, match="no image #4"):
        read_raw(path, 4)


def test_a_file_with_one_raw_image_has_its_own_name_and_no_note(tmp_path):
    info = read_info(dng_of_images(tmp_path / "a.dng", cfa_image(MOSAICS[0])))
    assert (info.images, info.notes, info.frame) == (1, (), tmp_path / "a.dng")


@pytest.mark.parametrize(
    "other",
    [
        cfa_image(MOSAICS[1][:40]),
        cfa_image(MOSAICS[1], fields.byte_field(33422, bytes((2, 1, 1, 0)))),
        cfa_image(MOSAICS[1], fields.rational_field(33434, 1 / 30)),
        cfa_image(MOSAICS[1], fields.integer_field(34855, 100)),
    ],
)
def test_images_of_another_size_or_exposure_are_no_frames_and_counted(tmp_path, other):
    exposed = (fields.rational_field(33434, 1 / 60), fields.integer_field(34855, 800))
    path = dng_of_images(tmp_path / "a.dng", other, cfa_image(MOSAICS[0], *exposed))
    info, mosaic = read_raw(path)
    assert info.images == 1
    assert info.notes == (
        "the file holds 2 raw images; they differ in size, exposure or sensitivity, so only one "
        "is used",
    )
    assert any(np.array_equal(mosaic, expected) for expected in MOSAICS)


@pytest.mark.parametrize(("ev", "used"), [(0.015, 2), (0.04, 1), (0.06, 1)])
def test_images_are_frames_if_their_settings_and_the_sum_differ_by_rounding_only(ev, used):
    def directory(step: float) -> dict:
        return {
            Tag.PHOTOMETRIC: fields.integer_field(262, 32803),
            Tag.ISO: fields.rational_field(34855, 1000 * 2**step),
            Tag.EXPOSURE_TIME: fields.rational_field(33434, 2**step / 64),
            Tag.F_NUMBER: fields.rational_field(33437, 4 * 2 ** (-step / 2)),
        }

    one, other = directory(0), directory(ev)
    assert len(images.dng_images(Metadata({}, one, 0, (one, other))).shots) == used


def test_absurd_settings_of_images_raise_nothing():
    one = {
        Tag.PHOTOMETRIC: fields.integer_field(262, 32803),
        Tag.ISO: fields.integer_field(34855, 0),
        Tag.EXPOSURE_TIME: fields.rational_field(33434, 0),
    }
    assert images.dng_images(Metadata({}, one, 0, (one, dict(one)))).shots == (0, 1)


def test_the_largest_image_is_read_wherever_it_is(tmp_path):
    path = dng_of_images(tmp_path / "a.dng", cfa_image(MOSAICS[1][:40]), cfa_image(MOSAICS[0]))
    info, mosaic = read_raw(path)
    assert (info.height, info.shot) == (48, 1)
    np.testing.assert_array_equal(mosaic, MOSAICS[0])


def test_reduced_images_and_masks_are_not_counted(tmp_path):
    path = dng_of_images(
        tmp_path / "a.dng",
        cfa_image(MOSAICS[1], kind=1),
        cfa_image(MOSAICS[0]),
        cfa_image(MOSAICS[2], kind=4),
    )
    info, mosaic = read_raw(path)
    assert (info.images, info.notes) == (1, ())
    np.testing.assert_array_equal(mosaic, MOSAICS[0])


def test_the_low_sensitivity_samples_of_a_mosaic_are_no_frame():
    two = {
        Tag.PHOTOMETRIC: fields.integer_field(262, 32803),
        Tag.SAMPLES_PER_PIXEL: fields.integer_field(277, 2),
    }
    found = images.dng_images(Metadata({}, two, 0, (two,)))
    assert found.shots == (0,)
    assert "2 raw images" in found.note
    # LibRaw counts both sensitivities of the first mosaic.
    one = {**two, Tag.SAMPLES_PER_PIXEL: fields.integer_field(277, 1)}
    assert images.dng_images(Metadata({}, one, 0, (two, one))).shots == (2,)


@pytest.mark.parametrize(
    ("make", "model", "suffix", "used"),
    [
        ("PENTAX", "PENTAX K-1", "pef", 3),
        ("RICOH IMAGING COMPANY, LTD.", "PENTAX K-3 Mark III", "pef", 3),
        ("NIKON CORPORATION", "NIKON D750", "nef", 1),
    ],
)
def test_images_of_a_maker_s_format_are_frames_where_the_maker_tells(
    tmp_path, make, model, suffix, used
):
    path = raw_of_images(tmp_path / f"a.{suffix}", make, model, *MOSAICS[:3])
    for number in range(used):
        info, mosaic = read_raw(path, number)
        assert info.images == used
        np.testing.assert_array_equal(mosaic, MOSAICS[number])
    (note,) = (note for note in read_info(path).notes if note.startswith("the file holds"))
    assert note.startswith("the file holds 3 raw images; ")
    assert ("not known, so only one is used" in note) == (used == 1)


def test_the_images_of_a_file_are_counted_once_until_it_changes(tmp_path, monkeypatch):
    tried = []
    has_image = reader._has_image
    monkeypatch.setattr(
        reader, "_has_image", lambda *what: tried.append(what[2]) or has_image(*what)
    )
    path = raw_of_images(tmp_path / "a.pef", "PENTAX", "PENTAX K-1", *MOSAICS)
    assert [read_raw(path, number)[0].image for number in range(4)] == [0, 1, 2, 3]
    assert len(tried) == len(set(tried))
    raw_of_images(path, "PENTAX", "PENTAX K-1", *MOSAICS[:2])
    assert read_raw(path)[0].images == 2


@pytest.mark.parametrize(("count", "used"), [(1, 1), (2, 1), (3, 3), (30, 30), (63, 63)])
def test_two_images_of_canon_may_be_halves_of_dual_pixels_more_are_a_roll(count, used):
    canon = Metadata({Tag.MAKE: fields.ascii_field(271, "Canon")}, {}, 0)
    found = images.maker_images(canon, lambda shot: shot < count)
    assert found.shots == tuple(range(used))
    assert (f"{count} raw images" in found.note) == (count > 1)


def test_the_decoder_reads_the_image_that_is_asked_for(tmp_path):
    path = dng_of_images(tmp_path / "a.dng", *map(cfa_image, MOSAICS[:2]))
    with Decoder() as decoder:
        info, planes = decoder.planes(path, 1)
    assert (info.image, info.images) == (1, 2)
    np.testing.assert_array_equal(planes[0], MOSAICS[1][::2, ::2])
