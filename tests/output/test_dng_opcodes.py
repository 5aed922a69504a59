"""Opcode lists are cut to what stays true, whatever is in them."""

from __future__ import annotations

from dng_results import identity
from hypothesis import given
from hypothesis import strategies as st
from raw_files import opcode, opcode_list, rich_dng, scene

from kpn_cli.output import dng_opcodes
from kpn_cli.output.dng_source import kept_of_dng
from kpn_cli.tiff.reader import read_tree


def test_opcodes_that_calculate_with_the_files_numbers_go_those_of_places_stay(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    tree = read_tree(identity(tmp_path / "a.dng", tmp_path / "b.dng"))
    tags = {tag.code: tag.data for tag in kept_of_dng(tree).mosaic}
    assert tags[51008] == opcode_list(opcode(5))
    assert tags[51009] == opcode_list(opcode(9))
    assert tags[51022] == opcode_list(opcode(1))


@given(st.lists(st.tuples(st.integers(0, 20), st.binary(max_size=30)), max_size=6))
def test_the_list_that_is_left_holds_the_same_opcodes_in_the_same_order(listed):
    kept = [opcode(number, data) for number, data in listed if number in (1, 2, 5, 6, 14)]
    before = opcode_list(*(opcode(number, data) for number, data in listed))
    assert dng_opcodes.without_levels(before) == (opcode_list(*kept) if kept else b"")


@given(st.binary(max_size=200))
def test_a_damaged_list_is_dropped_or_cut_but_never_trouble(data):
    result = dng_opcodes.without_levels(data)
    assert len(result) <= len(data)
