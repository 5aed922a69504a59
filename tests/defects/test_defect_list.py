"""A camera's list of defects knows its sensor, and is refused if it is absurd."""

from __future__ import annotations

from dataclasses import replace

import flat_frames
import numpy as np
import pytest

from kpn_cli.defects.defect_list import DefectList
from kpn_cli.errors import KpnError
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info

LIST = DefectList(80, 120, (0, 7, 79), (3, 119, 0))


@pytest.fixture(scope="module")
def info(tmp_path_factory) -> RawInfo:
    path = tmp_path_factory.mktemp("info") / "a.dng"
    noisy = flat_frames.truth(400).sample(flat_frames.flat(0.2, 40, 60), np.random.default_rng(0))
    return replace(read_info(flat_frames.write(path, noisy, 400)), height=80, width=120)


def test_defects_are_found_again_in_a_file_of_the_same_size(info):
    rows, columns = LIST.in_file(info)
    assert (rows.tolist(), columns.tolist()) == ([0, 7, 79], [3, 119, 0])


def test_places_count_from_the_origin_of_the_whole_frame(info):
    rows, columns = LIST.in_file(replace(info, origin=(5, 2)))
    assert (rows.tolist(), columns.tolist()) == ([-5, 2, 74], [1, 117, -2])


@pytest.mark.parametrize("size", [(80, 118), (40, 60), (120, 80)])
def test_a_file_of_another_size_has_none(size, info):
    """A camera that crops or bins its sensor has other pixels."""
    rows, columns = LIST.in_file(replace(info, height=size[0], width=size[1]))
    assert len(rows) == len(columns) == 0


@pytest.mark.parametrize(
    ("rows", "columns"),
    [((1, 2), (1,)), ((-1,), (0,)), ((0,), (-1,)), ((10**30,), (0,)), ((0,), (1 << 31,))],
)
def test_places_beyond_every_sensor_are_refused(rows, columns):
    with pytest.raises(KpnError, match="a row and a column"):
        DefectList(80, 120, rows, columns)


def test_more_defects_than_a_sensor_can_have_are_refused():
    most = tuple(range(96))
    assert len(DefectList(80, 120, most, most).rows) == 96
    with pytest.raises(KpnError, match="more than 1 % of the pixels"):
        DefectList(80, 120, (*most, 0), (*most, 0))
