"""The pixels that a file marks as defective are found, and absurd marks are ignored with a line."""

from __future__ import annotations

import struct
import time
from pathlib import Path

import numpy as np
import pytest
from dng_factory import write_dng
from dng_mosaics import noise_mosaic
from hypothesis import given
from hypothesis import strategies as st
from raw_files import nef, opcode, opcode_list

from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.marked_pixels import marked_pixels
from kpn_cli.raw.reader import read_info
from kpn_cli.raw.tags import Metadata
from kpn_cli.tiff import fields

CONSTANT, LIST = 4, 5
PLACES = [(3, 5), (3, 6), (20, 41), (45, 67)]


def constant(value: int) -> bytes:
    return opcode(CONSTANT, struct.pack(">LL", value, 0))


def listed(points=(), rectangles=()) -> bytes:
    data = struct.pack(">LLL", 0, len(points), len(rectangles))
    return opcode(LIST, data + np.array([*points], ">u4").tobytes() + corners(rectangles))


def corners(rectangles) -> bytes:
    return np.array([*rectangles], ">u4").tobytes()


def with_zeros(places=PLACES, value: int = 0) -> np.ndarray:
    mosaic = noise_mosaic()
    for place in places:
        mosaic[place] = value
    return mosaic


def dng(path: Path, mosaic: np.ndarray, opcodes: bytes, **changes) -> RawInfo:
    extra = [(51008, 7, len(opcodes), opcodes, True)]
    return read_info(write_dng(path / "a.dng", mosaic, extra=extra, **changes))


def places_of(info: RawInfo) -> list[tuple[int, ...]]:
    return sorted(zip(*info.marked, strict=True))


def places_in(data: bytes, mosaic: np.ndarray | None = None) -> tuple[list, tuple[str, ...]]:
    """The marks of an opcode list, without a file."""
    field = fields.undefined_field(51008, data)
    metadata = Metadata({50706: fields.byte_field(50706, b"\1\4\0\0")}, {51008: field}, 0)
    marks = marked_pixels(metadata, noise_mosaic() if mosaic is None else mosaic, (0, 0), 0)
    return sorted(zip(*marks.places.tolist(), strict=True)), marks.notes


# --- DNG ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1023])
def test_a_constant_marks_the_pixels_of_that_value(value, tmp_path):
    info = dng(tmp_path, with_zeros(value=value), opcode_list(constant(value)))
    assert places_of(info) == PLACES
    assert info.notes == ()


def test_a_list_marks_points_and_rectangles(tmp_path):
    marks = listed([(3, 5), (45, 67), (3, 5)], [(10, 20, 12, 23), (7, 7, 7, 30)])
    info = dng(tmp_path, noise_mosaic(), opcode_list(marks))
    rectangle = [(row, column) for row in (10, 11) for column in (20, 21, 22)]
    assert places_of(info) == [(3, 5), *rectangle, (45, 67)]


def test_marks_of_several_opcodes_add_up_and_other_opcodes_mark_nothing(tmp_path):
    marks = opcode_list(opcode(1), constant(0), listed([(30, 30)]), opcode(9), constant(1023))
    mosaic = with_zeros()
    mosaic[8, 9] = 1023
    assert places_of(dng(tmp_path, mosaic, marks)) == sorted([*PLACES, (8, 9), (30, 30)])


def test_a_list_counts_from_the_stored_image_not_from_the_active_area(tmp_path):
    points = [(0, 0), (4, 40), (7, 5), (9, 12)]
    info = dng(
        tmp_path,
        noise_mosaic(),
        opcode_list(listed(points, [(5, 0, 8, 7)])),
        active_area=(7, 5, 45, 67),
    )
    assert info.origin == (7, 5)
    # Two of the points are in the masked border, and most of the rectangle.
    assert places_of(info) == [(0, 0), (0, 1), (2, 7)]


def test_a_constant_is_the_stored_value_before_the_linearization_table(tmp_path):
    table = np.minimum(np.arange(1024) * 3 + 200, 3000)
    marks = opcode_list(constant(0))
    info = dng(tmp_path, with_zeros(), marks, linearization=table, white=3000)
    assert places_of(info) == PLACES


@pytest.mark.parametrize("value", [1, 1023, 5000])
def test_a_constant_that_the_table_maps_to_other_pixels_value_is_ignored_with_a_line(
    value, tmp_path
):
    table = np.maximum(np.minimum(np.arange(1024), 900), 10)
    mosaic = with_zeros(value=min(value, 1023))
    info = dng(tmp_path, mosaic, opcode_list(constant(value)), linearization=table, white=900)
    assert places_of(info) == []
    assert f"marks pixels by {value}, which LinearizationTable" in info.notes[0]


def test_a_list_of_any_length_is_read(tmp_path):
    """Of a long one, here 320 kB, most are in no picture."""
    marks = listed([(3, 5), *[(60_000, 60_000)] * 40_000, (20, 41)])
    assert places_of(dng(tmp_path, noise_mosaic(), opcode_list(marks))) == [(3, 5), (20, 41)]


# --- absurd and damaged marks ---------------------------------------------------------


@pytest.mark.parametrize(
    "marks",
    [
        constant(500),
        listed(rectangles=[(0, 0, 46, 68)]),
        listed(rectangles=[(0, 0, 2**32 - 1, 2**32 - 1)]),
        listed([(row, 30) for row in range(46)]),
    ],
    ids=["constant", "picture", "larger than the picture", "points"],
)
def test_too_many_marks_are_ignored_with_a_line(marks, tmp_path):
    mosaic = noise_mosaic()
    mosaic[:, 30] = 500
    info = dng(tmp_path, mosaic, opcode_list(marks))
    assert places_of(info) == []
    assert "marks more than 1 % of the pixels as defective: ignored" in info.notes[0]


def test_as_many_marks_as_a_sensor_can_have_are_believed(tmp_path):
    points = [(row, column) for row in (3, 20, 40) for column in range(0, 50, 5)]
    assert len(places_of(dng(tmp_path, noise_mosaic(), opcode_list(listed(points))))) == 30


def test_thousands_of_rectangles_as_large_as_the_picture_take_no_time():
    mosaic = np.ones((3000, 4000), np.uint16)
    start = time.monotonic()
    places, notes = places_in(opcode_list(listed(rectangles=[(0, 0, 3000, 4000)] * 20_000)), mosaic)
    assert places == [] and "FixBadPixelsList marks more than 1 %" in notes[0]
    assert time.monotonic() - start < 2


def test_more_constants_than_a_camera_has_are_ignored_with_a_line():
    places, notes = places_in(opcode_list(*map(constant, range(20_000))))
    assert places == []
    assert notes == ("FixBadPixelsConstant marks pixels by 20000 values: ignored",)


GOOD = opcode_list(constant(0), listed([(3, 5)], [(10, 20, 12, 23)]))


@pytest.mark.parametrize(
    "data",
    [
        GOOD[:-1],
        GOOD[:30],
        GOOD[:2],
        b"\xff" * 64,
    ],
)
def test_a_damaged_list_marks_nothing_with_a_line(data, tmp_path):
    info = dng(tmp_path, with_zeros(), data)
    assert places_of(info) == []
    assert info.notes == ("OpcodeList1 is damaged: the pixels it marks are not repaired",)


@pytest.mark.parametrize(
    ("name", "damaged"),
    [
        ("Constant", opcode(CONSTANT, b"\0" * 4)),
        ("List", opcode(LIST, struct.pack(">LLL", 0, 5, 0))),
        ("List", opcode(LIST, struct.pack(">LLL", 0, 2**32 - 1, 2**32 - 1))),
        ("List", opcode(LIST, b"\0" * 5)),
        ("List", listed(rectangles=[(10, 20, 8, 30)])),
    ],
)
def test_a_damaged_opcode_is_ignored_alone_with_a_line(name, damaged, tmp_path):
    marks = opcode_list(damaged, constant(0), listed([(30, 30)]), damaged)
    info = dng(tmp_path, with_zeros(), marks)
    assert places_of(info) == sorted([*PLACES, (30, 30)])
    assert info.notes == (f"FixBadPixels{name} is damaged: the pixels it marks are not repaired",)
    assert info.ignored_marks == ()


def test_a_list_of_too_many_is_ignored_alone(tmp_path):
    many = listed(rectangles=[(0, 0, 46, 68)])
    info = dng(tmp_path, with_zeros(), opcode_list(opcode(1), many, constant(0), listed([(9, 9)])))
    assert places_of(info) == sorted([*PLACES, (9, 9)])
    assert info.ignored_marks == (1,)


def test_lists_that_mark_too_many_together_are_not_all_believed():
    row = listed(rectangles=[(0, 0, 1, 20)])
    places, notes = places_in(opcode_list(*[row] * 20_000))
    assert len(places) == 20
    assert len(notes) == 1


@given(st.binary(max_size=200))
def test_any_bytes_mark_some_places_in_the_picture_or_none(data):
    places, _ = places_in(data)
    assert all(0 <= row < 46 and 0 <= column < 68 for row, column in places)


@given(at=st.integers(0, len(GOOD) - 1), cut=st.integers(0, 8), put=st.binary(max_size=8))
def test_damage_anywhere_marks_some_places_in_the_picture_or_none(at, cut, put):
    places, _ = places_in(GOOD[:at] + put + GOOD[at + cut :])
    assert all(0 <= row < 46 and 0 <= column < 68 for row, column in places)


# --- makers' formats ------------------------------------------------------------------


def maker(make: str, black: float, mosaic: np.ndarray) -> tuple[list, tuple[str, ...]]:
    metadata = Metadata({271: fields.ascii_field(271, make)}, {}, 0)
    marks = marked_pixels(metadata, mosaic, (0, 0), black)
    return sorted(zip(*marks.places.tolist(), strict=True)), marks.notes


@pytest.mark.parametrize("make", ["Panasonic", "LEICA CAMERA AG", "YUNEEC"])
def test_0_marks_a_defect_in_formats_like_rw2(make):
    assert maker(make, 15, with_zeros()) == (PLACES, ())
    assert maker(make, 0, with_zeros()) == ([], ())  # black too


def test_0_is_no_measurement_where_black_is_far_above_it(tmp_path):
    mosaic = noise_mosaic(60, 80) + np.uint16(900)
    mosaic[7, 9] = mosaic[20, 31] = 0
    assert places_of(read_info(nef(tmp_path / "a.nef", mosaic))) == [(7, 9), (20, 31)]


def test_0_is_a_value_like_others_where_it_is_black(tmp_path):
    mosaic = noise_mosaic(60, 80)
    mosaic[7, 9] = mosaic[20, 31] = 0
    path = nef(tmp_path / "a.nef", mosaic)
    path.write_bytes(path.read_bytes().replace(b"NIKON D750\0", b"NIKON D70\0\0"))
    info = read_info(path)
    assert info.black == (0,) * 4
    assert places_of(info) == []
    assert maker("Canon", 64, with_zeros()) == ([], ())


def test_0_in_more_than_some_pixels_is_ignored_with_a_line():
    mosaic = noise_mosaic()
    mosaic[:5] = 0
    places, notes = maker("Panasonic", 143, mosaic)
    assert places == []
    assert notes == ("the value 0 marks more than 1 % of the pixels as defective: ignored",)
