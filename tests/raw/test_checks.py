"""A file that is not a complete Bayer raw is refused with a one-line message."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from dng_factory import write_dng
from dng_mosaics import noise_mosaic, refusal

from kpn_cli.errors import KpnError
from kpn_cli.raw import checks
from kpn_cli.raw.reader import read_info, read_mosaic
from kpn_cli.raw.tags import Metadata, Tag
from kpn_cli.tiff import fields


def overwrite(path: Path, tag: int, value) -> Path:
    """Change a tag that the factory wrote."""
    with tifffile.TiffFile(path, mode="r+b") as tif:
        tif.pages[0].tags[tag].overwrite(value)
    return path


def test_files_that_cannot_be_opened_are_refused(tmp_path):
    assert "no such file" in refusal(tmp_path / "none.dng")
    assert "folder" in refusal(tmp_path)
    (tmp_path / "empty.dng").touch()
    assert "empty" in refusal(tmp_path / "empty.dng")
    (tmp_path / "text.dng").write_text("not a photo " * 99)
    assert "LibRaw" in refusal(tmp_path / "text.dng")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_refused_without_waiting_for_it(tmp_path):
    os.mkfifo(tmp_path / "pipe.dng")
    assert "not a regular file" in refusal(tmp_path / "pipe.dng")


def test_demosaiced_dngs_are_refused_as_such(tmp_path):
    colours = np.stack([noise_mosaic(seed=seed) for seed in range(3)], axis=-1)
    assert "linear DNG" in refusal(write_dng(tmp_path / "a.dng", colours, photometric=34892))


def test_monochrome_dngs_are_refused_as_such(tmp_path):
    path = overwrite(write_dng(tmp_path / "a.dng", noise_mosaic()), 262, 34892)
    assert "monochrome" in refusal(path)


def test_floating_point_dngs_are_refused_as_such(tmp_path):
    mosaic = noise_mosaic().astype(np.float32) / 1023
    assert "floating-point" in refusal(write_dng(tmp_path / "a.dng", mosaic, white=1))


def test_a_file_cut_short_is_refused(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic())
    path.write_bytes(path.read_bytes()[:-100])
    assert "ends too early" in refusal(path)


@pytest.mark.parametrize("start", [0, 5])
def test_a_strip_that_begins_in_the_header_is_refused(tmp_path, start):
    path = overwrite(write_dng(tmp_path / "a.dng", noise_mosaic()), 273, start)
    assert f"a strip of its image begins at byte {start}, in the header" in refusal(path)


@pytest.mark.parametrize(("dng", "compression", "fine"), [(True, 7, False), (False, 1, False),
                                                          (False, 34316, True)])  # fmt: skip
def test_a_tile_in_the_header_is_refused_unless_a_vendor_may_mean_something(
    tmp_path, dng, compression, fine
):
    path = tmp_path / "a.raw"
    values = {Tag.COMPRESSION: compression, Tag.TILE_OFFSETS: 0, Tag.TILE_BYTE_COUNTS: 300}
    raw = {tag: fields.long_field(tag, value) for tag, value in values.items()}
    main = {Tag.DNG_VERSION: fields.byte_field(Tag.DNG_VERSION, bytes((1, 4, 0, 0)))}
    metadata = Metadata(main if dng else {}, raw, 400)
    if fine:
        checks.check_tags(path, metadata)
    else:
        with pytest.raises(KpnError, match="a tile of its image begins at byte 0"):
            checks.check_tags(path, metadata)


def test_byte_counts_beyond_the_end_are_ignored_with_a_line_if_all_samples_are_there(tmp_path):
    """The last strip is counted in full, as some writers do."""
    path = write_dng(tmp_path / "a.dng", noise_mosaic())
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[0].dataoffsets[0]
    data = path.read_bytes()
    assert start + 46 * 68 * 2 == len(data)
    overwrite(path, 279, 46 * 68 * 2 + 777)
    overwrite(path, 278, 64)
    info = read_info(path)
    assert (read_mosaic(info) == noise_mosaic()).all()
    (note,) = info.notes
    assert note.startswith("StripByteCounts claims 777 bytes beyond the end of the file: ignored")
    path.write_bytes(data[:-2])
    overwrite(path, 279, 46 * 68 * 2 + 777)
    assert "ends too early: 0.0% of the image" in refusal(path)


@pytest.mark.parametrize("claimed", [0, 1, 100, 46 * 68 * 2 - 1])
def test_byte_counts_that_are_too_small_are_ignored_with_a_line(tmp_path, claimed):
    path = overwrite(write_dng(tmp_path / "a.dng", noise_mosaic()), 279, claimed)
    info = read_info(path)
    assert (read_mosaic(info) == noise_mosaic()).all()
    few = 46 * 68 * 2 - claimed
    (note,) = info.notes
    assert (
        note == f"StripByteCounts claims {few} bytes too few for its samples: ignored, all are read"
    )


@pytest.mark.parametrize("bits", [0, 1, 8, 12, 14, 33])
def test_a_depth_that_the_data_contradict_is_refused(tmp_path, bits):
    path = overwrite(write_dng(tmp_path / "a.dng", noise_mosaic()), 258, bits)
    message = refusal(path)
    assert f"BitsPerSample is {bits}" in message
    assert ("that of 16 bits" in message) == (0 < bits < 33)


def test_a_depth_above_that_of_the_data_is_refused(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic())
    overwrite(path, 279, 46 * 68 * 12 // 8)
    assert "BitsPerSample is 16, but the size of its data is that of 12 bits" in refusal(path)


def test_packed_samples_with_space_for_unpacked_ones_are_read(tmp_path):
    """Twelve bits take three quarters of the space; zeros follow."""
    mosaic = noise_mosaic()
    path = write_dng(tmp_path / "a.dng", mosaic)
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[0].dataoffsets[0]
    first, second = mosaic.reshape(-1, 2).astype(int).T
    packed = np.stack([first >> 4, (first & 15) << 4 | second >> 8, second & 255], -1)
    data = path.read_bytes()
    body = packed.astype(np.uint8).tobytes().ljust(len(data) - start, b"\0")
    path.write_bytes(data[:start] + body)
    info = read_info(overwrite(path, 258, 12))
    assert (read_mosaic(info) == mosaic).all()
    assert info.notes == ()


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_samples_of_strips_and_tiles_are_counted_as_tiff_packs_them(bits):
    def needed(count: int, **tags: int) -> list[int]:
        sizes = {"HEIGHT": 46, "WIDTH": 67, "BITS_PER_SAMPLE": bits} | tags
        raw = {Tag[name]: fields.long_field(Tag[name], value) for name, value in sizes.items()}
        return checks._sample_bytes(Metadata({}, raw, 0), count)

    row = -(-67 * bits // 8)
    assert needed(3, ROWS_PER_STRIP=20) == [20 * row, 20 * row, 6 * row]
    assert needed(1, ROWS_PER_STRIP=2**32 - 1) == [46 * row]
    tiles = {"TILE_OFFSETS": 9, "TILE_WIDTH": 48, "TILE_HEIGHT": 32}
    full, wide, narrow = 48 * bits // 8, 48 * bits // 8, -(-19 * bits // 8)
    assert needed(4, **tiles) == [32 * full, 31 * full + narrow, 13 * full + wide,
                                  13 * full + narrow]  # fmt: skip


@pytest.mark.parametrize(("end", "complete"), [(b"\xff\xd9", True), (b"\xff\xd9\0\0", True),
                                               (b"\xff\x00", False)])  # fmt: skip
def test_a_compressed_strip_is_complete_if_its_last_bytes_end_a_jpeg(tmp_path, end, complete):
    path = tmp_path / "a.dng"
    path.write_bytes(bytes(100) + bytes(range(1, 200)) + end)
    values = {Tag.COMPRESSION: 7, Tag.STRIP_OFFSETS: 100, Tag.STRIP_BYTE_COUNTS: 300}
    raw = {tag: fields.long_field(tag, value) for tag, value in values.items()}
    main = {Tag.DNG_VERSION: fields.byte_field(Tag.DNG_VERSION, bytes((1, 4, 0, 0)))}
    metadata = Metadata(main, raw, path.stat().st_size)
    if complete:
        checks.check_tags(path, metadata)
        assert "ignored" in checks.segment_note(metadata)
    else:
        with pytest.raises(KpnError, match="ends too early"):
            checks.check_tags(path, metadata)


def test_huge_dimensions_in_a_small_file_are_refused_before_memory_is_taken(tmp_path):
    path = write_dng(tmp_path / "a.dng", noise_mosaic())
    for tag in (256, 257, 278):
        overwrite(path, tag, 30000)
    assert "30000x30000" in refusal(path)


@pytest.mark.parametrize("value", [0, 64, 512])
def test_a_blank_mosaic_is_refused(tmp_path, value):
    blank = np.full((46, 68), value, np.uint16)
    assert f"every pixel is {value}" in refusal(write_dng(tmp_path / "a.dng", blank))


def test_a_wholly_clipped_mosaic_need_not_be_damaged(tmp_path):
    white = np.full((46, 68), 1023, np.uint16)
    assert "leave it out if it is overexposed" in refusal(write_dng(tmp_path / "a.dng", white))


def test_a_truncated_mosaic_is_refused_where_the_decoder_repeats_itself(tmp_path):
    sensor = noise_mosaic(100, 68)
    sensor[80:, 0::2], sensor[80:, 1::2] = 300, 500
    assert "last 20 of 100 rows" in refusal(write_dng(tmp_path / "a.dng", sensor))


def test_an_overexposed_end_is_accepted(tmp_path):
    sensor = noise_mosaic(100, 68)
    sensor[20:] = 1023
    assert read_mosaic(read_info(write_dng(tmp_path / "a.dng", sensor))).max() == 1023


def test_a_dark_frame_with_little_noise_is_accepted(tmp_path):
    rng = np.random.default_rng(0)
    # A sigma of 0.3 DN around black, and a camera that clips at black: mostly zeros.
    sensor = np.round(np.maximum(rng.normal(0, 0.3, (100, 400)), 0)).astype(np.uint16)
    assert (sensor == 0).mean() > 0.9
    assert read_mosaic(read_info(write_dng(tmp_path / "a.dng", sensor, black=(0,)))).max() > 0
