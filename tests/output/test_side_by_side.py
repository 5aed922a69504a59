"""Labelled pictures side by side, in files that say what they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kpn_cli.errors import KpnError
from kpn_cli.output.side_by_side import (
    compared_size,
    side_by_side,
    unique_id_of_picture,
    write_png,
)
from kpn_cli.tiff import fields


def test_every_picture_is_whole_and_has_a_label(rng):
    pictures = rng.integers(0, 256, (4, 30, 90, 3), dtype=np.uint8)
    rows = [[("one", pictures[0]), ("two", pictures[1])], [("one", pictures[2])]]
    whole = side_by_side(rows)
    assert whole.shape[:2] == compared_size((2, 2), (30, 90))
    places = [(32, 8), (32, 106), (94, 8)]
    for (top, left), picture in zip(places, pictures, strict=False):
        assert np.array_equal(whole[top : top + 30, left : left + 90], picture)
        assert whole[top - 24 : top, left : left + 90].max() > 200  # letters


def test_labels_are_not_cut_off_above_small_pictures():
    narrow = side_by_side([[("strength 0.5, grain 0.25", np.zeros((16, 16, 3), np.uint8))]])
    assert narrow.shape[1] > 120
    assert narrow[:, -8:].max() < 100


def test_a_png_says_what_it_was_made_from_and_is_not_replaced(tmp_path):
    path = tmp_path / "a.png"
    rgb = np.full((20, 30, 3), 77, np.uint8)
    exif = fields.ifd_field(34665, (fields.ascii_field(42016, "12ab"),))
    write_png(path, rgb, (exif,), replace=False)
    assert unique_id_of_picture(path) == "12ab"
    with Image.open(path) as picture:
        assert np.array_equal(np.asarray(picture), rgb)
        assert picture.info["icc_profile"]
    with pytest.raises(KpnError, match="already exists"):
        write_png(path, rgb, (exif,), replace=False)


@pytest.mark.parametrize("content", [b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"\xff\xd8\xff\xe1\0"])
def test_a_damaged_or_other_picture_says_nothing(tmp_path, content):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    assert unique_id_of_picture(path) == ""
    assert unique_id_of_picture(tmp_path / "absent.png") == ""
