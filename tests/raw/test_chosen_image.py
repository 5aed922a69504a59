"""An image of a DNG is refused if LibRaw has decoded another one than the tags are from."""

from __future__ import annotations

import numpy as np
import pytest
from raw_files import cfa_image, dng_of_images, scene

from kpn_cli.errors import KpnError
from kpn_cli.raw import images
from kpn_cli.raw.reader import read_raw

MOSAICS = [scene(48, 64) + np.uint16(100 * n) for n in range(2)]


def test_images_of_one_size_in_another_order_are_refused(tmp_path, monkeypatch):
    path = dng_of_images(tmp_path / "a.dng", *map(cfa_image, MOSAICS))
    assert read_raw(path, 1)[0].shot == 1
    monkeypatch.setattr(images, "dng_images", lambda metadata: images.Images((1, 0)))
    for image in (0, 1):
        with pytest.raises(KpnError, match="holds 2 raw images in an order that LibRaw reads"):
            read_raw(path, image)


def test_images_of_other_sizes_in_another_order_are_refused(tmp_path, monkeypatch):
    path = dng_of_images(tmp_path / "a.dng", cfa_image(MOSAICS[0]), cfa_image(MOSAICS[1][:40]))
    monkeypatch.setattr(images, "dng_images", lambda metadata: images.Images((1, 0)))
    with pytest.raises(KpnError, match="holds 2 raw images in an order that LibRaw reads"):
        read_raw(path)


def test_images_with_the_same_first_row_are_read(tmp_path):
    mosaics = [MOSAICS[0], MOSAICS[1].copy()]
    mosaics[1][0] = mosaics[0][0]
    path = dng_of_images(tmp_path / "a.dng", *map(cfa_image, mosaics))
    for image in (0, 1):
        np.testing.assert_array_equal(read_raw(path, image)[1], mosaics[image])
