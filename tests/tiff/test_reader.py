"""Only the fields asked for are read, within bounds, with the values they have."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from trees import contents, orders

from kpn_cli.raw.tags import Tag as MetadataTag
from kpn_cli.raw.tags import read_metadata
from kpn_cli.tiff import fields, reader, writer
from kpn_cli.tiff.reader import numbers, read_tree


class Traced(io.BytesIO):
    """A file that records which bytes were read."""

    def __init__(self, data):
        super().__init__(data)
        self.reads = []

    def read(self, size=-1):
        at, data = self.tell(), super().read(size)
        self.reads.append((at, data))
        return data


@orders
def test_fields_that_are_not_asked_for_are_not_read(tmp_path, monkeypatch, order):
    nested = (fields.ascii_field(271, "wanted, too"), fields.ascii_field(305, "unwanted"))
    ifd = (
        *(
            fields.ascii_field(271, "wanted"),
            fields.ascii_field(272, "unwanted"),
            fields.ascii_field(1, "no"),
        ),
        *(
            fields.ifd_field(330, nested),
            fields.ifd_field(34853, (fields.ascii_field(271, "unwanted"),)),
        ),
        *(fields.segments_field(273, [b"unwanted"] * 2), fields.long_field(279, 8, 8)),
    )
    data = writer.tiff_bytes([ifd], order)
    file = Traced(data)
    monkeypatch.setattr(reader, "open", lambda path, mode: file, raising=False)
    only = frozenset((271, 273, 330))
    tree = read_tree(tmp_path / "a.tif", read_segments=None, only=only)
    assert b"unwanted" not in b"".join(data for _, data in file.reads)
    main, nested_ifd = ({field.code: field for field in ifd} for ifd in reader.walk(tree.ifds))
    assert (main.keys(), nested_ifd.keys()) == (set(only), {271})
    assert (main[271].data, nested_ifd[271].data) == (b"wanted\0", b"wanted, too\0")
    assert [data[int(at) :][:8] for at in numbers(main[273])] == [b"unwanted"] * 2


def test_with_chosen_tags_huge_values_are_not_read(tmp_path):
    ifd = (fields.ascii_field(271, "maker"), fields.undefined_field(37500, bytes(300_000)))
    (tmp_path / "a.tif").write_bytes(writer.tiff_bytes([ifd]))
    chosen = read_tree(tmp_path / "a.tif", only=frozenset((271, 37500)))
    assert contents(chosen.ifds) == contents([ifd[:1]])
    assert contents(read_tree(tmp_path / "a.tif").ifds) == contents([ifd])


@orders
def test_numbers_of_every_type_keep_their_value(tmp_path, order):
    def field(kind, layout, *values):
        each = fields.TYPE_LAYOUT[kind][1]
        data = struct.pack(f"<{len(values)}{layout}", *values)
        return fields.Field(65000 + kind, kind, len(values) // each, data)

    ifd = (
        *(field(1, "B", 1, 255), field(3, "H", 65535), field(4, "L", 1 << 31), field(7, "B", 200)),
        *(field(6, "b", -1), field(8, "h", -2, 3), field(9, "l", -4)),
        *(
            field(5, "L", 1, 2, 3, 0),
            field(10, "l", -1, 4),
            field(11, "f", 0.5),
            field(12, "d", 0.1, -2),
        ),
        fields.ascii_field(65002, "text"),
    )
    (tmp_path / "a.tif").write_bytes(writer.tiff_bytes([ifd], order))
    found = {field.kind: numbers(field) for field in read_tree(tmp_path / "a.tif").ifds[0]}
    assert found == {
        **{1: (1, 255), 3: (65535,), 4: (1 << 31,), 7: (200,), 6: (-1,), 8: (-2, 3), 9: (-4,)},
        **{5: (0.5, np.inf), 10: (-0.25,), 11: (0.5,), 12: (0.1, -2), 2: ()},
    }


def test_texts_in_utf_8_are_read_and_kept(tmp_path):
    text = "Zoë".encode() + b"\0"
    path = tmp_path / "a.tif"
    path.write_bytes(writer.tiff_bytes([(fields.Field(271, 129, len(text), text),)], ">"))
    assert read_metadata(path).text(MetadataTag.MAKE) == "Zoë"
    ((field,),) = read_tree(path).ifds
    assert (field.kind, field.data) == (129, text)


@pytest.mark.parametrize(
    ("data", "offsets"),
    [
        (b"II*\0", [0]),
        (b"MM\0*" + b"Exif\0\0", [0]),  # a block in it is a preview's
        (b"IIRO", [0]),
        (b"IIU\0" + b"Exif\0\0", [0, 10]),
        (b"FUJI" + b"Exif\0\0", [10]),
        (b"II\x1a\0", []),
        (b"II", []),
        (b"", []),
    ],
)
def test_the_trees_of_a_file_are_found(data, offsets):
    assert reader.tree_offsets(io.BytesIO(data)) == offsets
