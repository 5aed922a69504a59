"""A burst's name and a frame's number are found in DNG tags, XMP and MakerNotes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.raw import burst_tags
from kpn_cli.raw.tags import Metadata, Tag
from kpn_cli.tiff import fields

UUID = b"3F2504E0-4F89-41D3-9A0C-0305E82C3301"
APPLE = b"Apple iOS\0\0\x01MM\0\x01" + struct.pack(">HHII", 0x0B, 2, len(UUID) + 1, 32) + bytes(4)


def metadata(**tags: str | bytes | fields.Field) -> Metadata:
    """Metadata of texts, bytes, and fields as they are."""
    make = {
        str: fields.ascii_field,
        bytes: fields.undefined_field,
        fields.Field: lambda code, tag: tag,
    }
    return Metadata({Tag[name]: make[type(v)](Tag[name], v) for name, v in tags.items()}, {}, 1)


def note(order: str, heading: bytes, code: int, kind: int, value: bytes) -> bytes:
    """A MakerNote of two fields."""
    entry = struct.pack(order + "HHI", code, kind, 1) + value.ljust(4, b"\0")
    other = struct.pack(order + "HHI", 1, 3, 1) + bytes(4)
    return heading + struct.pack(order + "H", 2) + other + entry + bytes(4)


@pytest.mark.parametrize(
    ("tags", "number"),
    [
        ({"MAKER_NOTE": note("<", b"SONY DSC \0\0\0", 0xB04A, 3, b"\x05\0")}, 5),
        ({"MAKER_NOTE": note(">", b"SONY DSC \0\0\0", 0xB04A, 3, b"\0\x05")}, 5),
        ({"MAKER_NOTE": note("<", b"", 0xB04A, 3, b"\x05\0"), "MAKE": "SONY"}, 5),
        ({"MAKER_NOTE": note("<", b"Panasonic\0\0\0", 0x2B, 4, b"\x07\0\0\0")}, 7),
        ({"MAKER_NOTE": note("<", b"Panasonic\0\0\0", 0x2B, 4, bytes(4))}, None),
        ({"MAKER_NOTE": note("<", b"SONY DSC \0\0\0", 0xB04A, 3, b"\xff\xff")}, None),
        ({"MAKER_NOTE": note("<", b"Unknown\0", 0xB04A, 3, b"\x05\0")}, None),
        ({"IMAGE_SEQUENCE_INFO": b"series-1\0burst\0\0\0\0\0\x04\0\0\0\x08\0"}, 5),
        ({}, None),
    ],
)
def test_the_frames_number_is_found(tags, number):
    assert burst_tags.burst_number(metadata(**tags)) == number


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ({"IMAGE_SEQUENCE_INFO": b"series-1\0burst\0\0\0\0\0\x04\0\0\0\x08\0"}, "series-1"),
        ({"XMP": b'<rdf:Description GCamera:BurstID="ab-12" x="y"/>'}, "ab-12"),
        ({"XMP": b"<GCamera:BurstID>ab-12</GCamera:BurstID>"}, "ab-12"),
        ({"MAKER_NOTE": APPLE.ljust(32, b"\0") + UUID + b"\0"}, UUID.decode()),
        ({"MAKER_NOTE": APPLE[:20]}, ""),
        ({"XMP": fields.integer_field(700, 300, 5)}, ""),
        ({"XMP": fields.double_field(700, 1.0, 2.5)}, ""),
        ({"IMAGE_SEQUENCE_INFO": b"series-1\0focus stack\0\0\0\0\0\4\0\0\0\x08\0"}, ""),
        ({}, ""),
    ],
)
def test_the_bursts_name_is_found(tags, found):
    assert burst_tags.burst_id(metadata(**tags)) == found


@pytest.mark.parametrize(
    ("tags", "bracketed", "name"),
    [
        ({"EXPOSURE_MODE": fields.integer_field(41986, 2)}, True, ""),
        ({"EXPOSURE_MODE": fields.integer_field(41986, 0)}, False, ""),
        ({"IMAGE_SEQUENCE_INFO": b"s-1\0Exposure Bracket\0\0\0\0\0\1\0\0\0\3\0"}, True, "s-1"),
        ({"IMAGE_SEQUENCE_INFO": b"s-1\0Focus Bracket\0\0\0\0\0\1\0\0\0\3\0"}, False, ""),
        ({"IMAGE_SEQUENCE_INFO": b"s-1\0burst\0\0\0\0\0\1\0\0\0\3\0"}, False, "s-1"),
    ],
)
def test_a_bracket_is_told_by_its_tags(tags, bracketed, name):
    found = metadata(**tags)
    assert (burst_tags.is_bracketed(found), burst_tags.burst_id(found)) == (bracketed, name)


@given(st.binary(max_size=200), st.sampled_from([b"Apple iOS\0", b"SONY DSC \0", b"Panasonic\0"]))
def test_damaged_notes_raise_nothing(data, heading):
    found = metadata(MAKER_NOTE=heading + data, IMAGE_SEQUENCE_INFO=data)
    assert isinstance(burst_tags.burst_id(found), str)
    assert isinstance(burst_tags.burst_number(found), (int, type(None)))
