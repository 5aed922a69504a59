"""Every TIFF tree we write is read back whole, wherever its parts had to go."""

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
    path.write_bytes(writer.encode(tree, order))
    found = read_tree(path, lambda ifd: True)
    assert found.order == order
    assert contents(found.ifds) == contents(tree)


@given(tree=trees(), order=st.sampled_from("<>"))
def test_writing_to_a_stream_and_to_bytes_is_the_same_every_time(tree, order):
    stream = io.BytesIO()
    writer.write(stream, tree, order)
    assert stream.getvalue() == writer.encode(tree, order) == writer.encode(tree, order)


@orders
def test_tifffile_reads_values_of_every_type(tmp_path, order):
    tags = (
        *(fields.long_tag(code, 1) for code in (256, 257, 277, 278)),
        fields.integer_tag(258, 8),
        fields.integer_tag(262, 1),
        fields.pieces_tag(273, [b"\x2a"]),
        fields.long_tag(279, 1),
        fields.ascii_tag(271, "maker"),
        fields.integer_tag(65001, 1, 2, 3),
        fields.integer_tag(65002, 1, 70000),
        fields.rational_tag(65003, 0.5, 3),
        fields.signed_rational_tag(65004, -0.25),
        fields.double_tag(65005, 1e-9, -2.5),
        fields.byte_tag(65006, b"\1\2\3\4\5"),
    )
    (tmp_path / "a.tif").write_bytes(writer.encode([tags], order))
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert file.byteorder == order
        found = {tag.code: tag.value for tag in file.pages[0].tags}
        assert file.pages[0].asarray() == 42
    assert found[271] == "maker"
    assert found[65001] == (1, 2, 3)
    assert found[65002] == (1, 70000)
    assert found[65003] == (1, 2, 3, 1)
    assert found[65004] == (-1, 4)
    assert found[65005] == (1e-9, -2.5)
    assert found[65006] == b"\1\2\3\4\5"


@pytest.mark.parametrize("at", [8, 100, 1234, 40_000])
def test_a_note_that_must_stay_is_where_it_was_and_the_rest_goes_around_it(tmp_path, at):
    note = fields.Tag(37500, 7, 600, bytes(range(200)) * 3, at)
    pieces = [bytes([n]) * 1000 for n in range(80)]
    tags = (fields.ascii_tag(271, "maker" * 20), note, fields.pieces_tag(324, pieces),
            fields.long_tag(325, *map(len, pieces)))  # fmt: skip
    data = writer.encode([tags])
    assert data[at : at + 600] == note.data
    assert len(data) < 83_000  # no hole larger than a piece
    (tmp_path / "a.tif").write_bytes(data)
    assert contents(read_tree(tmp_path / "a.tif", lambda ifd: True).ifds) == contents([tags])


def test_a_note_that_was_behind_everything_moves_rather_than_leave_a_hole():
    note = fields.Tag(37500, 7, 600, bytes(600), 1 << 30)
    assert len(writer.encode([(note,)])) < 1000


def test_notes_that_were_in_one_place_both_survive(tmp_path):
    notes = (fields.Tag(37500, 7, 60, b"a" * 60, 500), fields.Tag(50740, 1, 80, b"b" * 80, 520))
    more = fields.pieces_tag(324, [bytes(5000)]), fields.long_tag(325, 5000)
    (tmp_path / "a.tif").write_bytes(writer.encode([(*notes, *more)]))
    found = read_tree(tmp_path / "a.tif", lambda ifd: True)
    assert contents(found.ifds) == contents([(*notes, *more)])


def test_values_begin_at_even_offsets(tmp_path):
    tags = tuple(fields.ascii_tag(code, "x" * (code - 64990)) for code in range(65000, 65009))
    (tmp_path / "a.tif").write_bytes(writer.encode([tags]))
    assert all(tag.at % 2 == 0 for tag in read_tree(tmp_path / "a.tif").ifds[0])


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
    more = (fields.pieces_tag(324, [bytes(70_000)]), fields.long_tag(325, 70_000))
    ifds = [fields.merge(before.ifds[0], more)]
    (tmp_path / "b.tif").write_bytes(writer.encode(ifds, order))
    after = read_tree(tmp_path / "b.tif", lambda ifd: True)
    assert contents(after.ifds) == contents(ifds)
    kinds = {tag.code: tag.kind for tag in after.ifds[0]}
    assert (kinds[273], kinds[330], kinds[50000]) == (4, 4, 13)
    top = {tag.code: tag.data for tag in after.ifds[0]}
    below = {tag.code: tag.data for tag in top[330].ifds[0]}
    assert bytes(top[273].pieces[0]) == bytes(below[273].pieces[0]) == pixels
