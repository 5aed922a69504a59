"""The denoised DNG is the source with other pixels: nothing else is lost, moved or recoloured."""

from __future__ import annotations

from pathlib import Path

import exifread
import numpy as np
import pytest
import tifffile
from dng_factory import write_dng
from dng_results import assert_alike, identity, linear_samples, rendered
from hypothesis import given
from hypothesis import strategies as st
from raw_files import (
    BLACK,
    MAKER_NOTE,
    NOTE_AT,
    WHITE,
    cfa_image,
    dng_of_images,
    nef,
    rich_dng,
    scene,
)
from trees import contents

from kpn_cli.errors import KpnError
from kpn_cli.image.bayer import PHASES
from kpn_cli.output.develop import preview
from kpn_cli.output.dng_levels import OUTPUT_BLACK, OUTPUT_WHITE
from kpn_cli.output.dng_source import is_auxiliary_image, tags_kept_from_dng, tags_kept_from_raw
from kpn_cli.output.dng_writer import write_denoised_dng
from kpn_cli.raw.reader import read_frame, read_info, read_planes, read_raw
from kpn_cli.raw.tags import Tag, read_metadata
from kpn_cli.tiff import fields, writer
from kpn_cli.tiff.fields import Ifds, Segments
from kpn_cli.tiff.reader import integers, read_tree, walk

GREY = np.full((16, 16, 3), 128, np.uint8)

#: What denoising changes, wherever it is; tags of the storage of pixels, which a directory
#: may have for other pixels than before, included.
STORAGE = {254, 256, 257, 258, 259, 262, 273, 277, 278, 279, 284, 322, 323, 324, 325, 330, 339}
LEVELS = {50712, 50713, 50714, 50717, 51041}
#: Software, modification, versions of Exif and DNG.
FILE = {305, 306, 36864, 36880, 37520, 50706, 50707}
PREVIEWS = {50966, 50970}
#: ImageUniqueID, RawDataUniqueID, NewRawImageDigest; XMP.
IDENTITY = {42016, 50781, 51111}
XMP = {700}
CHANGED = STORAGE | LEVELS | FILE | PREVIEWS | IDENTITY | XMP
NEW = {50708, 274}  # where missing


# --- pixels ---------------------------------------------------------------------------


@pytest.mark.parametrize("compression", ["lossless", "none"])
@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    "area", [None, (6, 8, 137, 205), (7, 8, 140, 205), (6, 5, 139, 204), (7, 5, 139, 210)]
)
def test_identity_keeps_the_mosaic_to_a_step_for_any_phase_and_active_area(
    tmp_path, phase, area, compression
):
    source = write_dng(
        tmp_path / "a.dng", scene(141, 211), phase=phase, active_area=area,
        black=(BLACK,), white=WHITE,
    )  # fmt: skip
    output = identity(source, tmp_path / "b.dng", compression=compression)
    before, after = read_info(source), read_info(output)
    assert (after.phase, after.origin, after.height, after.width) == (
        before.phase, before.origin, before.height, before.width)  # fmt: skip
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(read_planes(after) - read_planes(before)).max() <= step
    # The masked border, too.
    assert np.abs(linear_samples(output)[0] - linear_samples(source)[0]).max() <= step


@pytest.mark.parametrize("width", [*range(768, 1281, 32), 1000, 1026, 1536, 2048])
def test_libraw_reads_the_compressed_result_of_any_width(tmp_path, width):
    """It takes two tiles that make up the width to the pixel for another camera's layout."""
    source = write_dng(tmp_path / "a.dng", scene(40, width), black=(BLACK,), white=WHITE)
    output = identity(source, tmp_path / "b.dng", compression="lossless")
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(linear_samples(output)[0] - linear_samples(source)[0]).max() <= step


def test_a_linearization_table_is_applied_and_left_out(tmp_path):
    table = np.rint(BLACK + (WHITE - BLACK) * np.linspace(0, 1, 256) ** 2).astype(int)
    mosaic = np.random.default_rng(0).integers(10, 250, (96, 128)).astype(np.uint16)
    source = write_dng(tmp_path / "a.dng", mosaic, linearization=table, black=(BLACK,), white=WHITE)
    output = identity(source, tmp_path / "b.dng")
    expected = (table[mosaic] - BLACK) / (WHITE - BLACK)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(linear_samples(output)[0] - expected).max() <= step
    assert 50712 not in {tag.code for tag in tags_kept_from_dng(read_tree(output)).mosaic}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", ["lossless", "none"])
def test_both_byte_orders_hold_the_same_pixels(tmp_path, order, compression):
    rich_dng(tmp_path / "a.dng", scene(160, 208), order)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng", compression=compression)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    before, _ = linear_samples(tmp_path / "a.dng")
    assert np.abs(linear_samples(output)[0] - before).max() <= step


# --- tags -----------------------------------------------------------------------------


def tags_of(ifd, skip=frozenset()):
    """Code -> type, count and content."""
    (listed,) = contents([ifd])
    return {code: rest for code, *rest in listed if code not in skip}


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_tag_is_kept_but_what_denoising_changes(tmp_path, order):
    main, raw, mask = rich_dng(tmp_path / "a.dng", scene(160, 208), order)
    tree = read_tree(identity(tmp_path / "a.dng", tmp_path / "b.dng"), lambda ifd: True)
    assert tree.order == order
    (top,) = tree.ifds
    nested = {tag.code: tag.data.ifds for tag in top if isinstance(tag.data, Ifds)}
    skip = CHANGED | {34665}
    assert tags_of(top, skip) == tags_of(main, skip)
    (exif,) = (tag.data.ifds[0] for tag in main if tag.code == 34665)
    assert tags_of(nested[34665][0], FILE) == tags_of(exif, FILE)
    new_raw, _, new_mask = nested[330]
    skip = CHANGED | {51008}
    assert tags_of(new_raw, skip) == tags_of(raw, skip)
    assert tags_of(new_mask) == tags_of(mask)
    assert not {42016, 50781, 50966} & {tag.code for tag in top}


def test_every_tag_of_real_files_is_kept_but_what_denoising_changes(real):
    before, after = (_flat(read_tree(path).ifds) for path in real)
    assert before <= after
    assert {code for code, *_ in after - before} <= NEW


def _flat(ifds):
    """(code, type, count, bytes) of all tags that don't change, whatever directory has them."""
    tags = (tag for tag in _all_tags(ifds) if not isinstance(tag.data, Ifds))
    skip = CHANGED | {530, 531, 532}  # of the preview
    return {(tag.code, tag.kind, tag.count, tag.data) for tag in tags if tag.code not in skip}


def test_exifread_finds_the_exposure_where_it_was(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    with output.open("rb") as file:
        exif = {name: str(value) for name, value in exifread.process_file(file).items()}
    assert exif["EXIF ExposureTime"] == "1/125"
    assert exif["EXIF ISOSpeedRatings"] == "3200"
    assert exif["EXIF LensModel"] == "Lens 50mm f/1.8"
    assert exif["Image Software"].startswith("kpn ")
    assert exif["Image DateTime"] == "2025:06:07 08:09:10"
    assert exif["EXIF OffsetTime"] == "+02:00"
    assert exif["EXIF DateTimeOriginal"] == "2024:01:02 03:04:05"
    assert "EXIF SubSecTime" not in exif
    assert exif["GPS GPSLatitude"] == "[48, 51, 59/2]"


def dated_dng(path: Path, main: dict[int, str], exif: dict[int, str] | None) -> Path:
    """Write a DNG that has these texts of time in IFD 0 and Exif."""
    texts = [(code, 2, 0, text, True) for code, text in main.items()]
    entries = exif and {code: (2, text) for code, text in exif.items()}
    return write_dng(path, scene(64, 80), black=(BLACK,), white=WHITE, exif=entries, extra=texts)


@pytest.mark.parametrize(
    ("main", "exif", "expected"),
    [
        ({306: "2024:01:02 03:04:05"}, None, {"DateTimeOriginal": "2024:01:02 03:04:05"}),
        (
            {306: "2024:01:02 03:04:05"},
            {36867: "0000:00:00 00:00:00", 36880: "+09:00", 37520: "77", 36864: "0221"},
            {"DateTimeOriginal": "2024:01:02 03:04:05", "SubSecTimeOriginal": "770000",
             "OffsetTimeOriginal": "+09:00"},
        ),
        (
            {306: "2025:01:02 03:04:05"},
            {36868: "2024:01:02 03:04:05", 36880: "+09:00", 36882: "-03:00"},
            {"DateTimeOriginal": "2024:01:02 03:04:05", "DateTimeDigitized": "2024:01:02 03:04:05",
             "OffsetTimeOriginal": "-03:00", "OffsetTimeDigitized": "-03:00"},
        ),
        (
            {306: "2025:01:02 03:04:05"},
            {36867: "2024:01:02 03:04:05", 36880: "+09:00"},
            {"DateTimeOriginal": "2024:01:02 03:04:05"},
        ),
        ({306: "2025:01:02 03:04:05", 36867: "2024:01:02 03:04:05"}, None, {}),
    ],
)  # fmt: skip
def test_the_time_of_the_exposure_survives_that_of_modification(tmp_path, main, exif, expected):
    source = dated_dng(tmp_path / "a.dng", main, exif)
    output = identity(source, tmp_path / "b.dng")
    assert read_info(output).captured == read_info(source).captured
    with output.open("rb") as file:
        said = {name: str(value) for name, value in exifread.process_file(file).items()}
    assert said["Image DateTime"] == "2025:06:07 08:09:10"
    times = {"DateTimeOriginal", "DateTimeDigitized", "SubSecTimeOriginal", "OffsetTimeOriginal",
             "OffsetTimeDigitized"}  # fmt: skip
    assert {name: said[f"EXIF {name}"] for name in times if f"EXIF {name}" in said} == expected
    if exif:
        assert said["EXIF ExifVersion"] == "0231"  # the first with a zone


def test_the_maker_note_keeps_its_offset_in_the_file(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    assert (tmp_path / "a.dng").read_bytes()[NOTE_AT:].startswith(MAKER_NOTE)
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    assert output.read_bytes()[NOTE_AT:].startswith(MAKER_NOTE)


def test_private_data_keep_their_offset_in_the_file(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    output = identity(tmp_path / "a.dng", tmp_path / "b.dng")
    places = [
        next(tag.offset for tag in read_tree(path).ifds[0] if tag.code == 50740)
        for path in (tmp_path / "a.dng", output)
    ]
    assert places[0] == places[1] > 0


def test_versions_are_those_of_the_content(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    new, old = tmp_path / "b.dng", tmp_path / "c.dng"
    tags = {tag.code: tag.data for tag in read_tree(identity(tmp_path / "a.dng", new)).ifds[0]}
    assert (tags[50706], tags[50707]) == (bytes((1, 4, 0, 0)), bytes((1, 3, 0, 0)))
    write_dng(old, scene(64, 80), black=(BLACK,), white=WHITE)
    data = old.read_bytes()
    old.write_bytes(data.replace(bytes((0x12, 0xC6, 1, 0, 4, 0, 0, 0, 1, 4)),
                                 bytes((0x12, 0xC6, 1, 0, 4, 0, 0, 0, 1, 0))))  # fmt: skip
    tags = {tag.code: tag.data for tag in read_tree(identity(old, new)).ifds[0]}
    assert (tags[50706], tags[50707]) == (bytes((1, 4, 0, 0)), bytes((1, 1, 0, 0)))


def test_the_same_input_gives_the_same_bytes(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    first, second = (identity(tmp_path / "a.dng", tmp_path / name) for name in ("b", "c"))
    assert first.read_bytes() == second.read_bytes()


def test_a_source_that_went_away_is_named_and_leaves_no_file(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(160, 208))
    info = read_info(tmp_path / "a.dng")
    planes, tree = read_planes(info), read_tree(info.path)
    (tmp_path / "a.dng").unlink()
    with pytest.raises(KpnError, match=r"a\.dng: cannot be read"):
        read_tree(info.path)
    with pytest.raises(KpnError, match=r"a\.dng: "):
        write_denoised_dng(tmp_path / "b.dng", info, tree, planes, GREY)
    assert list(tmp_path.iterdir()) == []


# --- pictures -------------------------------------------------------------------------


def test_previews_are_of_the_result_in_the_crop_and_not_rotated(tmp_path):
    rich_dng(tmp_path / "a.dng", scene(166, 218), orientation=6)
    info = read_info(tmp_path / "a.dng")
    planes = np.broadcast_to(
        np.array((0.1, 0.2, 0.2, 0.125), np.float32)[:, None, None], (4, 81, 106)
    )
    output = tmp_path / "b.dng"
    tree = read_tree(info.path, is_auxiliary_image)
    write_denoised_dng(output, info, tree, planes, preview(info, planes))
    with tifffile.TiffFile(output) as file:
        top = file.pages[0]
        raw, shown = top.pages[0], top.pages[1]
        thumbnail, picture = top.asarray(), shown.asarray()
        tags = {tag.code: tag.value for tag in shown.tags}
    assert raw.photometric == 32803
    assert (tags[254], tags[259], tags[262], tags[50970]) == (1, 7, 6, 2)
    # 190 x 152 of the visible 210 x 160, as wide as the sensor, not as the upright photo.
    assert picture.shape == (152, 190, 3)
    assert thumbnail.shape == (152, 190, 3)
    grey = 255 * (1.055 * 0.2 ** (1 / 2.4) - 0.055)
    assert np.abs(picture.astype(float) - grey).max() < 3
    assert np.abs(thumbnail.astype(float) - grey).max() < 3


# --- other raw formats ----------------------------------------------------------------


def test_a_nef_becomes_a_dng_with_all_that_is_known(tmp_path):
    source = nef(tmp_path / "a.nef", scene(160, 264))
    output = identity(source, tmp_path / "b.dng")
    before, after = read_info(source), read_info(output)
    for name in ("make", "model", "phase", "height", "width", "iso", "exposure_time", "f_number",
                 "focal_length", "captured", "orientation"):  # fmt: skip
        assert getattr(after, name) == getattr(before, name), name
    np.testing.assert_allclose(after.color_matrix, before.color_matrix, atol=1e-6)
    np.testing.assert_allclose(after.white_balance, before.white_balance, rtol=1e-5)
    step = 1 / (OUTPUT_WHITE - OUTPUT_BLACK)
    assert np.abs(read_planes(after) - read_planes(before)).max() <= step
    with output.open("rb") as file:
        exif = {name: str(value) for name, value in exifread.process_file(file).items()}
    assert exif["EXIF LensModel"] == "Lens 50mm f/1.8"
    assert exif["Image Artist"] == "An artist"
    assert exif["GPS GPSLatitude"] == "[48, 51, 59/2]"
    assert output.read_bytes()[NOTE_AT:].startswith(MAKER_NOTE)
    # Of daylight, and up to where LibRaw says the D750 is linear, as kpn has them.
    told = {"user_wb": [*before.white_balance, 1.0], "use_camera_wb": False}
    reach = round(before.white - before.black[0])
    assert_alike(rendered(output), rendered(source, user_sat=reach, **told))


def test_a_dng_without_a_time_of_modification_has_no_zone_of_it(tmp_path):
    zone, fraction = fields.ascii_field(36880, "+09:00"), fields.ascii_field(37520, "77")
    timeless = fields.ascii_field(36867, "0000:00:00 00:00:00")
    source = nef(tmp_path / "a.nef", scene(160, 264), zone, fraction, timeless)
    output = identity(source, tmp_path / "b.dng", modified=None)
    with output.open("rb") as file:
        said = exifread.process_file(file)
    assert "EXIF ISOSpeedRatings" in said
    assert not {"Image DateTime", "EXIF OffsetTime", "EXIF SubSecTime"} & set(said)
    assert read_info(output).captured is None


def canon_boxes(*ifds, order: str = "<") -> bytes:
    """The beginning of a CR3, as far as its tags go: a TIFF tree in each box."""
    boxes = b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"
    for name, ifd in zip((b"CMT1", b"CMT2", b"CMT4"), ifds, strict=True):
        tree = writer.tiff_bytes([ifd], order)
        boxes += (8 + len(tree)).to_bytes(4, "big") + name + tree
    return boxes


@pytest.mark.parametrize("order", ["<", ">"])
def test_place_and_exposure_in_the_boxes_of_a_cr3_are_kept(tmp_path, order):
    main = (
        fields.ascii_field(271, "Canon"),
        fields.ascii_field(272, "EOS R5"),
        fields.ascii_field(315, "me"),
    )
    exif = (fields.rational_field(33434, 1 / 125), fields.integer_field(34855, 3200))
    gps = (fields.byte_field(0, bytes((2, 3, 0, 0))), fields.rational_field(2, 48, 51, 29.5))
    path = tmp_path / "a.cr3"
    path.write_bytes(canon_boxes(main, exif, gps, order=order))
    kept = tags_kept_from_raw(read_tree(path))
    assert [[tag.code for tag in ifd] for ifd in kept] == [[315], [33434, 34855], [0, 2]]
    said = read_metadata(path)
    assert said.text(Tag.MAKE) == "Canon"
    assert said.numbers(Tag.ISO) == (3200,)


def test_make_and_orientation_in_the_block_of_an_mrw_are_found(tmp_path):
    main = (
        fields.ascii_field(271, "Minolta"),
        fields.ascii_field(272, "A1"),
        fields.integer_field(274, 6),
    )
    tree = writer.tiff_bytes([main], ">")
    sizes = b"\0PRD" + (24).to_bytes(4, "big") + bytes(24)
    block = sizes + b"\0TTW" + len(tree).to_bytes(4, "big") + tree
    path = tmp_path / "a.mrw"
    path.write_bytes(b"\0MRM" + len(block).to_bytes(4, "big") + block + bytes(100))
    said = read_metadata(path)
    assert (said.text(Tag.MAKE), said.text(Tag.MODEL)) == ("Minolta", "A1")
    assert said.numbers(Tag.ORIENTATION) == (6,)


# --- damaged trees --------------------------------------------------------------------


def test_damaged_trees_are_read_within_bounds_and_what_is_read_can_be_written(tmp_path, rng):
    rich_dng(tmp_path / "a.dng", scene(32, 48), ">")
    whole = np.frombuffer((tmp_path / "a.dng").read_bytes(), np.uint8)
    for _ in range(200):
        data = whole.copy()
        # Mostly among the directories, which come first.
        places = rng.integers(0, rng.choice([200, 1500, len(data)]), rng.integers(1, 12))
        data[places] = rng.choice([0, 1, 2, 0x7F, 0xFF, *rng.integers(0, 256, 3)], len(places))
        _read_and_write(tmp_path / "b.dng", data[: rng.integers(8, len(data))].tobytes())


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_damaged_source_is_refused_or_written_and_read_again(tmp_path, rng, order):
    rich_dng(tmp_path / "a.dng", scene(60, 80), order)
    whole = np.frombuffer((tmp_path / "a.dng").read_bytes(), np.uint8)
    written = 0
    for _ in range(25):
        data = whole.copy()
        data[rng.integers(8, rng.choice([700, 1700, 3000]), 3)] = rng.choice([0, 1, 255], 3)
        (tmp_path / "b.dng").write_bytes(data.tobytes())
        try:
            info = read_info(tmp_path / "b.dng")
            planes = read_planes(info)
        except KpnError:
            continue
        tree = read_tree(info.path, is_auxiliary_image)
        write_denoised_dng(tmp_path / "c.dng", info, tree, planes, GREY)
        assert read_planes(read_info(tmp_path / "c.dng")).shape == planes.shape
        written += 1
    assert written > 8


@given(st.binary(max_size=300), st.sampled_from([b"II*\0", b"MM\0*"]))
def test_random_bytes_behind_a_header_are_read_within_bounds(tmp_path_factory, noise, header):
    path = tmp_path_factory.getbasetemp() / "noise.dng"
    _read_and_write(path, header + noise)


def _read_and_write(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    tree = read_tree(path, lambda ifd: True)
    if tree is None:
        return
    found = list(_all_tags(tree.ifds))
    read = sum(len(part) for tag in found for part in _parts(tag))
    assert read <= 2 * len(data)  # profiles are written anew, with a header and directory
    tags_kept_from_dng(tree)


def _parts(tag):
    if isinstance(tag.data, Segments):
        return tag.data.segments
    return [tag.data] if isinstance(tag.data, bytes) and tag.count > 4 else []


def _all_tags(ifds):
    for ifd in ifds:
        for tag in ifd:
            yield tag
            if isinstance(tag.data, Ifds):
                yield from _all_tags(tag.data.ifds)


def test_the_result_of_one_image_of_several_has_the_tags_and_the_border_of_that_image(tmp_path):
    area = fields.long_field(50829, 4, 6, 96, 128)
    images = [
        cfa_image(
            scene(96, 128) + np.uint16(n),
            area,
            fields.integer_field(50733, 100 + n),  # BayerGreenSplit
        )
        for n in range(3)
    ]
    path = dng_of_images(tmp_path / "multi.dng", *images)
    info, _ = read_raw(path, 1)
    output = tmp_path / "out.dng"
    tree = read_tree(path, is_auxiliary_image)
    write_denoised_dng(output, info, tree, read_planes(info), GREY)
    written = read_info(output)
    assert (written.images, integers_of(output, 50733)) == (1, (101,))
    was, now = ((read_frame(i) - i.black[0]) / (i.white - i.black[0]) for i in (info, written))
    np.testing.assert_allclose(now, was, atol=1e-4)


def integers_of(path: Path, code: int) -> tuple[int, ...]:
    ifds = walk(read_tree(path).ifds)
    return next(found for ifd in ifds if (found := integers(ifd, code)))
