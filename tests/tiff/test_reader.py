"""Only what is asked for is read, within bounds, as what it is."""

from __future__ import annotations

import io
import struct

import numpy as np
from trees import contents, orders

from kpn_cli.raw.tags import Tag as MetadataTag
from kpn_cli.raw.tags import read_metadata
from kpn_cli.tiff import fields, reader, writer
from kpn_cli.tiff.reader import numbers, read_tree


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
