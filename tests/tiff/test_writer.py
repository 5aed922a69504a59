"""Every TIFF tree we write is read back whole, wherever its parts had to go."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from trees import contents, trees

from kpn_cli.raw.tags import Tag as MetadataTag
from kpn_cli.raw.tags import read_metadata
from kpn_cli.tiff import fields, reader, writer
from kpn_cli.tiff.reader import numbers, read_tree

orders = pytest.mark.parametrize("order", ["<", ">"])


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


class Traced(io.BytesIO):
    """A file that knows what was read of it."""

    def __init__(self, data):
        super().__init__(data)
        self.parts = []

    def read(self, size=-1):
        at, data = self.tell(), super().read(size)
        self.parts.append((at, data))
        return data


@orders
def test_of_the_tags_not_asked_for_nothing_is_read(tmp_path, monkeypatch, order):
    nested = (fields.ascii_tag(271, "wanted, too"), fields.ascii_tag(305, "unwanted"))
    tags = (
        *(
            fields.ascii_tag(271, "wanted"),
            fields.ascii_tag(272, "unwanted"),
            fields.ascii_tag(1, "no"),
        ),
        *(fields.ifd_tag(330, nested), fields.ifd_tag(34853, (fields.ascii_tag(271, "unwanted"),))),
        *(fields.pieces_tag(273, [b"unwanted"] * 2), fields.long_tag(279, 8, 8)),
    )
    data = writer.encode([tags], order)
    file = Traced(data)
    monkeypatch.setattr(reader, "open", lambda path, mode: file, raising=False)
    only = frozenset((271, 273, 330))
    tree = read_tree(tmp_path / "a.tif", pictures=None, only=only)
    assert b"unwanted" not in b"".join(part for _, part in file.parts)
    main, below = ({tag.code: tag for tag in ifd} for ifd in reader.flat(tree.ifds))
    assert (main.keys(), below.keys()) == (set(only), {271})
    assert (main[271].data, below[271].data) == (b"wanted\0", b"wanted, too\0")
    assert [data[int(at) :][:8] for at in numbers(main[273])] == [b"unwanted"] * 2


def test_of_some_tags_no_value_is_read_that_would_fill_the_memory(tmp_path):
    tags = (fields.ascii_tag(271, "maker"), fields.undefined_tag(37500, bytes(300_000)))
    (tmp_path / "a.tif").write_bytes(writer.encode([tags]))
    some = read_tree(tmp_path / "a.tif", only=frozenset((271, 37500)))
    assert contents(some.ifds) == contents([tags[:1]])
    assert contents(read_tree(tmp_path / "a.tif").ifds) == contents([tags])


@orders
def test_numbers_of_every_type_are_read_as_what_they_are(tmp_path, order):
    def tag(kind, layout, *values):
        each = fields.NUMBERS[kind][1]
        data = struct.pack(f"<{len(values)}{layout}", *values)
        return fields.Tag(65000 + kind, kind, len(values) // each, data)

    tags = (
        *(tag(1, "B", 1, 255), tag(3, "H", 65535), tag(4, "L", 1 << 31), tag(7, "B", 200)),
        *(tag(6, "b", -1), tag(8, "h", -2, 3), tag(9, "l", -4)),
        *(tag(5, "L", 1, 2, 3, 0), tag(10, "l", -1, 4), tag(11, "f", 0.5), tag(12, "d", 0.1, -2)),
        fields.ascii_tag(65002, "text"),
    )
    (tmp_path / "a.tif").write_bytes(writer.encode([tags], order))
    found = {tag.kind: numbers(tag) for tag in read_tree(tmp_path / "a.tif").ifds[0]}
    assert found == {
        **{1: (1, 255), 3: (65535,), 4: (1 << 31,), 7: (200,), 6: (-1,), 8: (-2, 3), 9: (-4,)},
        **{5: (0.5, np.inf), 10: (-0.25,), 11: (0.5,), 12: (0.1, -2), 2: ()},
    }


def test_texts_in_utf_8_are_read_and_kept(tmp_path):
    text = "Zoë".encode() + b"\0"
    path = tmp_path / "a.tif"
    path.write_bytes(writer.encode([(fields.Tag(271, 129, len(text), text),)], ">"))
    assert read_metadata(path).text(MetadataTag.MAKE) == "Zoë"
    ((tag,),) = read_tree(path).ifds
    assert (tag.kind, tag.data) == (129, text)


def test_the_last_group_wins_and_names_each_tag_once():
    first, second = (
        [fields.ascii_tag(271, "a"), fields.ascii_tag(272, "b")],
        [fields.ascii_tag(271, "c")],
    )
    merged = {tag.code: tag.data for tag in fields.merge(first, second)}
    assert merged == {271: b"c\0", 272: b"b\0"}


@pytest.mark.parametrize("kind", fields.NUMBERS)
def test_swapping_twice_changes_nothing_and_once_turns_each_number(kind):
    size, each = fields.NUMBERS[kind]
    data = bytes(range(3 * size * each))
    assert fields.swapped(fields.swapped(data, kind), kind) == data
    turned = np.frombuffer(fields.swapped(data, kind), f">u{size}")
    np.testing.assert_array_equal(turned, np.frombuffer(data, f"<u{size}"))
