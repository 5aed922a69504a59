"""Photos as linear scenes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pictures import photo, scene

from kpn_cli.errors import KpnError
from kpn_cli.image.srgb import srgb_decode
from kpn_cli.synthesis.photos import find_photos, load_scene, load_scenes, scene_from_srgb

PHOTO = photo(3, 40, 48)
SCENE = scene_from_srgb("photo", PHOTO)
#: Linear light of the photo in 16 bits, `(height, width, 3)` float64.
LINEAR = np.round(65535 * srgb_decode(PHOTO / 255))
#: Channel, and photo pixels below and right of the cell's corner, of R, G1, G2, B.
PLANES = ((0, 0, 0), (1, 0, 2), (1, 2, 0), (2, 2, 2))


def write(path, picture=PHOTO):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]))
    return path


def crop_map(x, y):
    return np.array([[4, 0, x], [0, 4, y]], np.float64)


# --- sampling ---------------------------------------------------------------


@given(st.integers(0, 20), st.integers(0, 12), st.integers(1, 6), st.integers(1, 6))
def test_a_mosaic_pixel_is_the_mean_of_the_2x2_photo_pixels_below_it(x, y, rows, columns):
    planes = SCENE.planes(crop_map(x, y), rows, columns)
    assert planes.shape == (4, rows, columns)
    assert planes.dtype == np.uint16
    for plane, row, column in np.ndindex(*planes.shape):
        channel, below, right = PLANES[plane]
        top, left = y + 4 * row + below, x + 4 * column + right
        expected = LINEAR[top : top + 2, left : left + 2, channel].mean()
        assert abs(planes[plane, row, column] - expected) <= 1


def test_the_planes_of_a_scene_tile_the_whole_photo():
    """No photo pixel is left out of the greens' rows or counted twice: the means agree."""
    ramp = np.repeat(np.arange(48, dtype=np.uint8)[None, :, None] * 5, 40, 0).repeat(3, 2)
    planes = scene_from_srgb("ramp", ramp).planes(crop_map(0, 0), 10, 12)
    linear = 65535 * srgb_decode(ramp[0, :, 0] / 255)
    np.testing.assert_allclose(planes[0, 0], linear.reshape(12, 4)[:, :2].mean(1), atol=1)
    np.testing.assert_allclose(planes[3, 0], linear.reshape(12, 4)[:, 2:].mean(1), atol=1)


@pytest.mark.parametrize(("dx", "dy"), [(0.5, 0), (0, 0.5), (0.5, 0.5), (0.25, 0.75)])
def test_between_photo_pixels_sampling_is_bilinear(dx, dy):
    whole = [
        SCENE.planes(crop_map(8 + x, 8 + y), 5, 6).astype(float) for y in (0, 1) for x in (0, 1)
    ]
    weights = [(1 - dy) * (1 - dx), (1 - dy) * dx, dy * (1 - dx), dy * dx]
    expected = sum(weight * planes for weight, planes in zip(weights, whole, strict=True))
    between = SCENE.planes(crop_map(8 + dx, 8 + dy), 5, 6)
    np.testing.assert_allclose(between, expected, atol=2)


def test_a_flipped_map_reads_the_photo_backwards():
    forwards = SCENE.planes(crop_map(4, 4), 6, 8)
    backwards = SCENE.planes(np.array([[-4.0, 0, 4 + 4 * 7], [0, 4, 4]]), 6, 8)
    np.testing.assert_array_equal(backwards[0], forwards[0, :, ::-1])  # red lies in the corner


def test_beyond_its_border_the_photo_is_mirrored():
    planes = SCENE.planes(crop_map(-8, -4), 4, 4)
    expected = SCENE.channels[0][4, [8, 4, 0, 4]]
    np.testing.assert_array_equal(planes[0, 0], expected)


def test_black_and_white_keep_their_values():
    for level, linear in ((0, 0), (255, 65535)):
        flat = scene_from_srgb("flat", np.full((12, 12, 3), level, np.uint8))
        assert (flat.channels == linear).all()


def test_a_scene_knows_its_size():
    assert (SCENE.height, SCENE.width) == (40, 48)


# --- reading ----------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_a_photo_read_from_a_file_is_the_scene_of_its_pixels(tmp_path, suffix):
    scene = load_scene(write(tmp_path / f"photo{suffix}"))
    assert scene.name == f"photo{suffix}"
    np.testing.assert_array_equal(scene.channels, SCENE.channels)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_a_lossy_photo_is_read_in_the_right_order_of_colours(tmp_path, suffix):
    red = np.zeros((16, 16, 3), np.uint8)
    red[..., 0] = 200
    means = load_scene(write(tmp_path / f"red{suffix}", red)).channels.mean((1, 2))
    assert means[0] > 20 * max(means[1], means[2], 1)


def test_a_grey_photo_has_three_equal_channels(tmp_path):
    cv2.imwrite(str(tmp_path / "grey.png"), PHOTO[..., 0])
    channels = load_scene(tmp_path / "grey.png").channels
    np.testing.assert_array_equal(channels, np.broadcast_to(SCENE.channels[:1], channels.shape))


def test_a_name_beyond_ascii_is_read(tmp_path):
    (tmp_path / "Öl é.png").write_bytes(write(tmp_path / "plain.png").read_bytes())
    assert load_scene(tmp_path / "Öl é.png").name == "Öl é.png"


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff", b"not a photo", bytes(4096)])
def test_a_file_that_is_no_photo_is_refused_by_name(tmp_path, content):
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(KpnError, match=r"broken\.jpg: not a readable photo"):
        load_scene(path)


def test_a_missing_photo_is_refused_by_name(tmp_path):
    with pytest.raises(KpnError, match=r"none\.jpg: cannot be read"):
        load_scene(tmp_path / "none.jpg")


# --- finding ----------------------------------------------------------------


def test_photos_are_found_below_folders_in_order_and_other_files_are_not(tmp_path):
    for name in ("b.png", "a.JPG", "deep/er/c.tif", "notes.txt", "raw.dng"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    names = [path.relative_to(tmp_path).as_posix() for path in find_photos([tmp_path])]
    assert names == ["a.JPG", "b.png", "deep/er/c.tif"]


def test_a_file_given_by_name_is_taken_whatever_its_suffix(tmp_path):
    odd = tmp_path / "photo.picture"
    odd.write_bytes(b"")
    assert find_photos([odd]) == [odd]


def test_a_path_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(KpnError, match=r"gone: cannot be read \(No such file"):
        find_photos([tmp_path / "gone"])


def test_a_folder_without_photos_is_refused(tmp_path):
    with pytest.raises(KpnError, match="no photos in"):
        find_photos([tmp_path])


# --- many -------------------------------------------------------------------


def test_broken_and_small_photos_are_named_and_skipped_and_the_rest_is_read(tmp_path):
    write(tmp_path / "good.png")
    write(tmp_path / "small.png", PHOTO[:20])
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no more")
    skipped, seen = [], []
    scenes = load_scenes(
        [tmp_path], at_least=30, on_photo=lambda: seen.append(1), on_skip=skipped.append
    )
    assert [scene.name for scene in scenes] == ["good.png"]
    assert len(seen) == 3
    assert len(skipped) == 2
    assert "broken.jpg" in skipped[0]
    assert "small.png: 48x20" in skipped[1]


def test_nothing_usable_is_an_error(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    with pytest.raises(KpnError, match="no usable photo"):
        load_scenes([tmp_path])


@given(
    st.sampled_from([4, -4, 2, -2]),
    st.sampled_from([4, -4, 6, 3]),
    st.booleans(),
    st.integers(-3, 60),
    st.integers(-3, 60),
)
def test_samples_on_photo_pixels_equal_those_of_a_warp(along, across, swapped, x, y):
    """Stepping through memory gives what OpenCV's warp gives, inside and across the border."""
    one = scene(1, 60, 70)
    linear = [[0, across], [along, 0]] if swapped else [[along, 0], [0, across]]
    matrix = np.column_stack([np.array(linear, float), (x, y)])
    exact = one.planes(matrix, 7, 9)
    nudged = matrix.copy()
    nudged[0, 2] += 1e-9  # no longer whole: the general way, at the same place
    np.testing.assert_array_equal(exact, one.planes(nudged, 7, 9))
