"""Copies are recognised by their pixels; the file that the camera wrote is the original."""

from __future__ import annotations

import numpy as np
import pytest

from kpn_cli.burst.copies import distance_from_camera, pixel_digest
from kpn_cli.raw.tags import Metadata, Tag
from kpn_cli.tiff import fields

RATING = b'<x:xmpmeta xmp:Rating="4" xmp:MetadataDate="2026-05-07T10:00:00Z"/>'


def metadata(**changes: object) -> Metadata:
    """Tags as a camera writes them into a DNG; None leaves one out."""
    values: dict[str, object] = {
        "DNG_VERSION": bytes((1, 4, 0, 0)),
        "MAKER_NOTE": b"Maker\0note",
        "SOFTWARE": "Ver.1.01",
        "DATE_TIME": "2026:05:06 12:00:00",
        "XMP": b'<x:xmpmeta xmp:Rating="0"/>',
        **changes,
    }
    main = {
        Tag[name]: fields.ascii_field(Tag[name], value)
        if isinstance(value, str)
        else fields.byte_field(Tag[name], value)
        for name, value in values.items()
        if value is not None
    }
    return Metadata(main, {}, 1000)


@pytest.mark.parametrize(
    "change",
    [
        {"MAKER_NOTE": None},
        {"XMP": RATING},
        {"SOFTWARE": "Adobe DNG Converter 17.0 (Windows)"},
        {"DATE_TIME": "2026:05:07 10:00:00"},
        {"DATE_TIME": None},
    ],
)
def test_a_copy_that_an_editor_wrote_comes_after_the_camera_s_file(change):
    camera, editor = metadata(), metadata(**change)
    assert distance_from_camera(camera, "b.dng") < distance_from_camera(editor, "a.dng")


def test_a_maker_s_own_format_comes_before_a_dng_made_of_it():
    raw = metadata(DNG_VERSION=None, MAKER_NOTE=None)
    assert distance_from_camera(raw, "b.nef") < distance_from_camera(metadata(), "a.dng")


def test_of_equal_copies_the_name_decides():
    assert distance_from_camera(metadata(), "a.dng") < distance_from_camera(metadata(), "b.dng")


def test_pixels_are_equal_only_with_equal_values_shape_and_order(rng):
    planes = rng.integers(0, 4000, (4, 30, 40)).astype(np.uint16)
    changed = planes.copy()
    changed[3, 29, 39] += 1
    digests = {pixel_digest(p) for p in (planes, changed, planes.reshape(4, 40, 30), planes[::-1])}
    assert len(digests) == 4
    assert pixel_digest(np.asfortranarray(planes)) == pixel_digest(planes)
