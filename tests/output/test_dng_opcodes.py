"""Opcode lists are cut to what stays true, whatever is in them."""

from __future__ import annotations

import struct

from dng_factory import write_dng
from dng_mosaics import noise_mosaic
from dng_results import identity
from hypothesis import given
from hypothesis import strategies as st
from raw_files import opcode, opcode_list, rich_dng, scene

from kpn_cli.output import dng_opcodes
from kpn_cli.output.dng_source import tags_kept_from_dng
from kpn_cli.tiff.reader import read_tree


def test_geometric_opcodes_stay_and_opcodes_on_sample_values_go(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    tree = read_tree(identity(tmp_path / "a.dng", tmp_path / "b.dng"))
    tags = {tag.code: tag.data for tag in tags_kept_from_dng(tree).mosaic}
    assert 51008 not in tags  # the pixels of its FixBadPixelsList (5) are repaired
    assert tags[51009] == opcode_list(opcode(9))
    assert tags[51022] == opcode_list(opcode(1))


def test_a_list_of_defects_that_was_ignored_stays_and_one_that_was_applied_goes(tmp_path):
    applied = opcode(5, struct.pack(">LLLLL", 0, 1, 0, 3, 5))
    ignored = opcode(5, struct.pack(">LLLLLLL", 0, 0, 1, 0, 0, 100, 100))
    opcodes = opcode_list(applied, opcode(4, bytes(8)), ignored, opcode(1))
    write_dng(tmp_path / "a.dng", noise_mosaic(), extra=[(51008, 7, len(opcodes), opcodes, True)])
    tree = read_tree(identity(tmp_path / "a.dng", tmp_path / "b.dng"))
    tags = {tag.code: tag.data for tag in tags_kept_from_dng(tree, 0, range(9)).mosaic}
    assert tags[51008] == opcode_list(ignored, opcode(1))


@given(st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=30)), max_size=6))
def test_geometric_opcodes_keep_their_order(listed):
    kept = [opcode(number, data) for number, data in listed if number in (1, 2, 6, 14)]
    before = opcode_list(*(opcode(number, data) for number, data in listed))
    assert dng_opcodes.keep_geometric_opcodes(before) == (opcode_list(*kept) if kept else b"")


@given(st.binary(max_size=200))
def test_a_damaged_list_is_dropped_or_cut(data):
    result = dng_opcodes.keep_geometric_opcodes(data)
    assert len(result) <= len(data)
