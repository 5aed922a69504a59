"""Random TIFF trees, and what is in one whatever its layout."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st

from kpn_cli.tiff import fields
from kpn_cli.tiff.fields import Ifds, Pieces, Tag

orders = pytest.mark.parametrize("order", ["<", ">"])


def contents(ifds):
    """Tags in order, without places in the file."""
    return [
        [
            (tag.code, tag.kind, tag.count, _content(tag))
            for tag in sorted(ifd, key=lambda t: t.code)
        ]
        for ifd in ifds
    ]


def _content(tag: Tag):
    if isinstance(tag.data, Ifds):
        return contents(tag.data.ifds)
    if isinstance(tag.data, Pieces):
        return [bytes(piece) for piece in tag.data.pieces]
    return tag.data


@st.composite
def _values(draw, code):
    kind = draw(st.sampled_from([kind for kind in fields.NUMBERS if kind != 13]))
    size, each = fields.NUMBERS[kind]
    count = draw(st.integers(1, 9))
    return Tag(code, kind, count, draw(st.binary(min_size=count * size * each,
                                                 max_size=count * size * each)))  # fmt: skip


@st.composite
def _ifds(draw, depth):
    codes = draw(st.sets(st.integers(60000, 60020), min_size=1, max_size=5))
    tags = [draw(_values(code)) for code in codes]
    if draw(st.booleans()):
        pieces = draw(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4))
        tags += [fields.pieces_tag(324, pieces), fields.long_tag(325, *map(len, pieces))]
    if depth and draw(st.booleans()):
        nested = draw(st.lists(_ifds(depth - 1), min_size=1, max_size=3))
        tags.append(fields.ifd_tag(draw(st.sampled_from([330, 34665, 34853])), *nested))
    return tuple(tags)


def trees():
    """Chains of up to three directories with values, pieces and nested directories."""
    return st.lists(_ifds(2), min_size=1, max_size=3)
