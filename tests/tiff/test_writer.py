"""Every TIFF tree that is written reads back whole, wherever its values were placed."""

from __future__ import annotations

import io
import struct

import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from trees import contents, orders, trees

from kpn_cli.tiff import fields, writer
from kpn_cli.tiff.reader import read_tree


@given(tree=trees(), order=st.sampled_from("<>"))
def test_a_tree_reads_back_as_it_was_written(tmp_path_factory, tree, order):
    path = tmp_path_factory.getbasetemp() / "tree.tif"
    path.write_bytes(writer.tiff_bytes(tree, order))
    found = read_tree(path, lambda ifd: True)
    assert found.order == order
    assert contents(found.ifds) == contents(tree)


@given(tree=trees(), order=st.sampled_from("<>"))
def test_a_stream_and_bytes_have_the_same_content_every_time(tree, order):
    stream = io.BytesIO()
    writer.write_tiff(stream, tree, order)
    assert stream.getvalue() == writer.tiff_bytes(tree, order) == writer.tiff_bytes(tree, order)


@orders
def test_tifffile_reads_values_of_every_type(tmp_path, order):
    ifd = (
        *(fields.long_field(code, 1) for code in (256, 257, 277, 278)),
        fields.integer_field(258, 8),
        fields.integer_field(262, 1),
        fields.segments_field(273, [b"\x2a"]),
        fields.long_field(279, 1),
        fields.ascii_field(271, "maker"),
        fields.integer_field(65001, 1, 2, 3),
        fields.integer_field(65002, 1, 70000),
        fields.rational_field(65003, 0.5, 3),
        fields.signed_rational_field(65004, -0.25),
        fields.double_field(65005, 1e-9, -2.5),
        fields.byte_field(65006, b"\1\2\3\4\5"),
    )
    (tmp_path / "a.tif").write_bytes(writer.tiff_bytes([ifd], order))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.byteorder == order
        found = {field.code: field.value for field in file.pages[0].tags}
        assert file.pages[0].asarray() == 42
    assert found[271] == "maker"
    assert found[65001] == (1, 2, 3)
    assert found[65002] == (1, 70000)
    assert found[65003] == (1, 2, 3, 1)
    assert found[65004] == (-1, 4)
    assert found[65005] == (1e-9, -2.5)
    assert found[65006] == b"\1\2\3\4\5"


@pytest.mark.parametrize("at", [8, 100, 1234, 40_000])
def test_a_note_with_an_offset_keeps_it_and_the_rest_goes_around_it(tmp_path, at):
    note = fields.Field(37500, 7, 600, bytes(range(200)) * 3, at)
    segments = [bytes([n]) * 1000 for n in range(80)]
    ifd = (fields.ascii_field(271, "maker" * 20), note, fields.segments_field(324, segments),
           fields.long_field(325, *map(len, segments)))  # fmt: skip
    data = writer.tiff_bytes([ifd])
    assert data[at : at + 600] == note.data
    assert len(data) < 83_000  # no hole larger than a segment
    (tmp_path / "a.tif").write_bytes(data)
    assert contents(read_tree(tmp_path / "a.tif", lambda ifd: True).ifds) == contents([ifd])


def test_a_note_beyond_the_end_moves_rather_than_leave_a_hole():
    note = fields.Field(37500, 7, 600, bytes(600), 1 << 30)
    assert len(writer.tiff_bytes([(note,)])) < 1000


def test_notes_with_overlapping_offsets_both_survive(tmp_path):
    notes = (fields.Field(37500, 7, 60, b"a" * 60, 500), fields.Field(50740, 1, 80, b"b" * 80, 520))
    more = fields.segments_field(324, [bytes(5000)]), fields.long_field(325, 5000)
    (tmp_path / "a.tif").write_bytes(writer.tiff_bytes([(*notes, *more)]))
    found = read_tree(tmp_path / "a.tif", lambda ifd: True)
    assert contents(found.ifds) == contents([(*notes, *more)])


def test_values_begin_at_even_offsets(tmp_path):
    ifd = tuple(fields.ascii_field(code, "x" * (code - 64990)) for code in range(65000, 65009))
    (tmp_path / "a.tif").write_bytes(writer.tiff_bytes([ifd]))
    assert all(field.offset % 2 == 0 for field in read_tree(tmp_path / "a.tif").ifds[0])


@orders
def test_offsets_of_16_bits_are_written_with_32(tmp_path, order):
    # IFD 0 points to a strip, a SubIFD of the same strip, and one of type IFD.
    pixels, first, nested = b"pixels", 14, 100
    entries = [(273, 3, 1, 8), (279, 3, 1, 6), (330, 3, 1, nested), (50000, 13, 1, nested + 80)]
    data = bytearray(struct.pack(order + "2sHL", b"II" if order == "<" else b"MM", 42, first))
    data += pixels
    for at, listed in ((first, entries), (nested, entries[:2]), (nested + 80, entries[:2])):
        data = data.ljust(at, b"\0") + struct.pack(order + "H", len(listed))
        for code, kind, count, value in listed:
            field = struct.pack(order + ("H2x" if kind == 3 else "L"), value)
            data += struct.pack(order + "HHL", code, kind, count) + field
        data += bytes(4)
    (tmp_path / "a.tif").write_bytes(data)
    before = read_tree(tmp_path / "a.tif", lambda ifd: True)
    # Far enough away for more than 16 bits.
    more = (fields.segments_field(324, [bytes(70_000)]), fields.long_field(325, 70_000))
    ifds = [fields.merge(before.ifds[0], more)]
    (tmp_path / "b.tif").write_bytes(writer.tiff_bytes(ifds, order))
    after = read_tree(tmp_path / "b.tif", lambda ifd: True)
    assert contents(after.ifds) == contents(ifds)
    kinds = {field.code: field.kind for field in after.ifds[0]}
    assert (kinds[273], kinds[330], kinds[50000]) == (4, 4, 13)
    top = {field.code: field.data for field in after.ifds[0]}
    below = {field.code: field.data for field in top[330].ifds[0]}
    assert bytes(top[273].segments[0]) == bytes(below[273].segments[0]) == pixels
