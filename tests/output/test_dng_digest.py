"""NewRawImageDigest is what Adobe's programs compute."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import tifffile
from dng_results import SHARED, identity
from raw_files import nef, rich_dng, scene

from kpn_cli.output.dng_digest import new_raw_image_digest
from kpn_cli.tiff.reader import read_tree


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/raw")
def test_the_digest_is_that_of_adobes_converter():
    with tifffile.TiffFile(SHARED / "single" / "adobe-linear-rgb16.dng") as file:
        page = file.pages[0]
        assert new_raw_image_digest(page.asarray()) == page.tags[51111].value


def test_tiles_are_256_pixels_wide_and_smaller_at_the_edges(rng):
    image = rng.integers(0, 65536, (300, 520), dtype=np.uint16)
    parts = [
        image[rows, columns]
        for rows in (slice(0, 256), slice(256, 300))
        for columns in (slice(0, 256), slice(256, 512), slice(512, 520))
    ]
    digests = b"".join(hashlib.md5(part.astype("<u2").tobytes()).digest() for part in parts)
    assert new_raw_image_digest(image) == hashlib.md5(digests).digest()


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_dng_has_the_digest_of_the_mosaic_that_a_reader_decodes(tmp_path, order):
    rich_dng(tmp_path / "a.dng", scene(300, 208), order)
    nef(tmp_path / "a.nef", scene(160, 264))
    for source, mask in ((tmp_path / "a.dng", True), (tmp_path / "a.nef", False)):
        output = identity(source, tmp_path / "b.dng")
        tags = {tag.code: tag.data for tag in read_tree(output).ifds[0]}
        # A transparency mask would be part of the digest; kpn does not decode it.
        assert (51111 in tags) is not mask
        if not mask:
            with tifffile.TiffFile(output) as file:
                assert tags[51111] == new_raw_image_digest(file.pages[0].pages[0].asarray())
