"""Levels of a file: where its samples clip, and the highest that they can have."""

from __future__ import annotations

from dataclasses import replace

import pytest
from dng_factory import write_dng
from dng_mosaics import noise_mosaic

from kpn_cli.raw.reader import read_info


@pytest.mark.parametrize(
    ("saturation", "clipped_from", "share", "highest"),
    [(None, 1000, 1, 1000), (800, 800, 0.75, 1000), (1200, 1200, 1.25, 1200)],
)
def test_samples_clip_where_the_picture_shows_it_or_else_at_white(
    tmp_path, saturation, clipped_from, share, highest
):
    info = read_info(write_dng(tmp_path / "a.dng", noise_mosaic()))
    info = replace(info, black=(100, 200, 200, 100), white=1000.0, saturation=saturation)
    assert (info.clipped_from, info.clipped_share, info.highest) == (clipped_from, share, highest)
