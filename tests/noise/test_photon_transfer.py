from __future__ import annotations

from pathlib import Path

import flat_frames
import numpy as np
import pytest
from flat_frames import flat, pairs, recorded, truth, write

from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise import photon_transfer
from kpn_cli.noise.photon_transfer import calibrate
from kpn_cli.raw.camera_notes import CameraNotes
from kpn_cli.raw.full_exif import complete_iso

PI_STATIC = Path(__file__).parents[3] / "shared" / "raw" / "pi-static"
ISOS = (100, 400, 1600, 6400, 12800)


@pytest.fixture(scope="module")
def camera(tmp_path_factory):
    return calibrate(pairs(tmp_path_factory.mktemp("flats"), ISOS))


@pytest.mark.parametrize("iso", ISOS)
def test_the_noise_of_every_iso_and_plane_is_found(iso, camera):
    """About 150 patches a pair and plane give the variance to 1 %."""
    (level,) = (level for level in camera.levels if level.iso == iso)
    true = recorded(truth(iso))
    np.testing.assert_allclose(level.noise.shot, true.shot, rtol=0.05)
    np.testing.assert_allclose(level.noise.read, true.read, rtol=0.15)
    assert (level.pairs, level.note) == (len(flat_frames.BRIGHTNESSES), "")


def test_the_camera_is_named_and_its_isos_are_sorted(camera):
    assert (camera.make, camera.model) == ("Maker", "Flat 1")
    assert [level.iso for level in camera.levels] == list(ISOS)


def test_the_order_of_the_files_hardly_matters(tmp_path):
    paths = pairs(tmp_path, (400,))
    one, other = (calibrate(p).levels[0].noise for p in (paths, paths[::-1]))
    np.testing.assert_allclose(one.shot, other.shot, rtol=1e-3)


def test_exposure_times_of_a_pair_may_jitter(tmp_path):
    rng = np.random.default_rng(3)
    paths = []
    for brightness in flat_frames.BRIGHTNESSES:
        for jitter in (1.0, 1.0001):
            noisy = truth(800).sample(flat(brightness), rng)
            path = tmp_path / f"{brightness}_{jitter}.dng"
            paths.append(write(path, noisy, 800, jitter * brightness / 10))
    assert calibrate(paths).levels[0].pairs == 5


def test_brightness_may_change_at_one_exposure(tmp_path):
    """By the light, instead of the exposure time."""
    rng = np.random.default_rng(2)
    paths = []
    for turn in range(2):
        for brightness in flat_frames.BRIGHTNESSES:
            noisy = truth(800).sample(flat(brightness), rng)
            paths.append(write(tmp_path / f"{turn}{brightness}.dng", noisy, 800))
    (level,) = calibrate(paths).levels
    assert level.pairs == 5
    np.testing.assert_allclose(level.noise.shot, truth(800).shot, rtol=0.05)


def test_clipped_flats_are_left_out(tmp_path):
    """Half of the brightest ones is beyond the white level."""
    (level,) = calibrate(pairs(tmp_path, (12800,), (0.002, 0.05, 0.3, 1.4))).levels
    np.testing.assert_allclose(level.noise.shot, truth(12800).shot, rtol=0.05)
    np.testing.assert_allclose(level.noise.read, recorded(truth(12800)).read, rtol=0.15)


def test_samples_clipped_at_black_are_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(flat_frames, "BLACK", 0)
    (level,) = calibrate(pairs(tmp_path, (6400,), (0.0005, 0.004, 0.02, 0.1, 0.4))).levels
    np.testing.assert_allclose(level.noise.shot, truth(6400).shot, rtol=0.05)
    np.testing.assert_allclose(level.noise.read, recorded(truth(6400)).read, rtol=0.15)


def test_hot_pixels_and_fixed_pattern_do_not_pass_for_noise(tmp_path):
    rng = np.random.default_rng(3)
    pattern = 1 + np.float32(0.02) * rng.standard_normal((4, 160, 240), np.float32)
    paths = []
    for brightness in flat_frames.BRIGHTNESSES:
        for turn in range(2):
            noisy = truth(400).sample(flat(brightness) * pattern, rng)
            noisy[rng.random(noisy.shape) < 1e-4] = 0.5  # they flicker
            paths.append(write(tmp_path / f"{turn}{brightness}.dng", noisy, 400, brightness))
    (level,) = calibrate(paths).levels
    np.testing.assert_allclose(level.noise.shot, truth(400).shot, rtol=0.05)
    np.testing.assert_allclose(level.noise.read, recorded(truth(400)).read, rtol=0.15)


def test_read_noise_that_the_flats_hide_is_assumed_with_a_note(tmp_path):
    (level,) = calibrate(pairs(tmp_path, (100,), (0.2, 0.7))).levels
    assert "assumed" in level.note
    np.testing.assert_allclose(level.noise.shot, truth(100).shot, rtol=0.1)
    assert 1 / 30 < np.mean(level.noise.read) / np.mean(truth(100).read) < 30


@pytest.mark.skipif(not PI_STATIC.is_dir(), reason="needs ../shared")
def test_a_real_camera_in_front_of_a_still_scene_is_measured():
    """Flats are better, but what stands still cancels too: 0.09 DN^2/DN and 0.22 to 0.3 DN^2."""
    (level,) = calibrate(sorted(PI_STATIC.glob("*.dng"))).levels
    assert level.pairs == 4
    assert np.mean(level.noise.shot) * 963 == pytest.approx(0.09, rel=0.1)
    assert np.mean(level.noise.read) * 963**2 == pytest.approx(0.26, abs=0.06)


# --- defects ----------------------------------------------------------------


#: In planes `(4, 160, 240)`: plane, row, column.
HOT = [(0, 3, 5), (1, 80, 120), (2, 80, 120), (3, 159, 0)]
DEAD = [(1, 40, 41), (2, 100, 200)]


def with_defects(folder: Path, lights, darks=()) -> list[Path]:
    """Pairs of flats and darks of a sensor with hot and dead pixels."""
    rng = np.random.default_rng(7)
    paths = []
    for light, seconds in [*((light, light / 10) for light in lights), *((0, t) for t in darks)]:
        for turn in range(2):
            clean = flat(light)
            for place in HOT:
                clean[place] += 0.2 * seconds
            for place in DEAD:
                clean[place] *= 0.1
            path = folder / f"{light}_{seconds}_{turn}.dng"
            paths.append(write(path, truth(1600).sample(clean, rng), 1600, seconds))
    return paths


def pixels(places) -> list[tuple[int, int]]:
    """Where samples of planes are in the mosaic of the flats, which begins with green of blue."""
    return sorted((2 * y + plane // 2 - 1, 2 * x + plane % 2) for plane, y, x in places)


def test_hot_and_dead_pixels_are_listed(tmp_path):
    camera = calibrate(with_defects(tmp_path, flat_frames.BRIGHTNESSES, darks=(1.0,)))
    assert (camera.defects.height, camera.defects.width) == (319, 480)
    found = list(zip(camera.defects.rows, camera.defects.columns, strict=True))
    assert found == pixels(HOT + DEAD)
    (level,) = camera.levels
    np.testing.assert_allclose(level.noise.shot, truth(1600).shot, rtol=0.05)


def test_without_long_darks_hot_pixels_may_be_hidden(tmp_path):
    camera = calibrate(with_defects(tmp_path, flat_frames.BRIGHTNESSES))
    found = set(zip(camera.defects.rows, camera.defects.columns, strict=True))
    assert set(pixels(DEAD)) <= found < set(pixels(HOT + DEAD))


def test_a_sensor_without_defects_has_an_empty_list(camera):
    assert camera.defects.rows == camera.defects.columns == ()


# --- what can't be measured -------------------------------------------------


def test_a_frame_without_a_second_one_is_named(tmp_path):
    paths = pairs(tmp_path, (100, 400))
    with pytest.raises(KpnError, match=r"400_0\.05_1\.dng: no second frame .*1/200 s, ISO 400"):
        calibrate([path for path in paths if path.name != "400_0.05_0.dng"])


def test_a_third_frame_does_no_harm(tmp_path):
    paths = pairs(tmp_path, (100,))
    third = truth(100).sample(flat(0.25), np.random.default_rng(9))
    paths.append(write(tmp_path / "third.dng", third, 100, 0.025))
    assert calibrate(paths).levels[0].pairs == 5


def test_two_cameras_are_refused(tmp_path):
    paths = pairs(tmp_path, (100,))
    noisy = truth(100).sample(flat(0.3), np.random.default_rng(1))
    paths.append(write(tmp_path / "other.dng", noisy, 100, model="Flat 2"))
    with pytest.raises(KpnError, match=r"other\.dng: taken with Maker Flat 2.*one camera"):
        calibrate(paths)


def test_a_file_without_iso_is_refused(tmp_path):
    noisy = truth(100).sample(flat(0.3), np.random.default_rng(1))
    with pytest.raises(KpnError, match=r"a\.dng: states no ISO"):
        calibrate([write(tmp_path / "a.dng", noisy, None)])


def test_the_makers_notes_give_an_iso_that_is_missing(tmp_path, monkeypatch):
    paths = pairs(tmp_path, (100,))
    noisy = [truth(100).sample(flat(0.3), np.random.default_rng(n)) for n in range(2)]
    paths += [write(tmp_path / f"{n}.dng", planes, None) for n, planes in enumerate(noisy)]
    notes = CameraNotes(iso=100, iso_source="MakerNote ISOInfo")
    monkeypatch.setattr(photon_transfer, "complete_iso", lambda info: complete_iso(
        info, lambda path: notes))  # fmt: skip
    assert [level.pairs for level in calibrate(paths).levels] == [6]


def test_the_same_picture_twice_is_no_pair(tmp_path):
    noisy = truth(100).sample(flat(0.3), np.random.default_rng(1))
    paths = [write(tmp_path / name, noisy, 100) for name in ("a.dng", "b.dng")]
    with pytest.raises(KpnError, match=r"b\.dng: the same picture as .*a\.dng"):
        calibrate(paths)


def test_flats_of_one_brightness_are_refused(tmp_path):
    with pytest.raises(KpnError, match=r"ISO 100: .*too alike; the noise is S\*x \+ O"):
        calibrate(pairs(tmp_path, (100,), (0.3,)))


def test_flats_clipped_all_over_are_refused(tmp_path):
    rng = np.random.default_rng(1)
    bright = [truth(12800).sample(flat(0.9) * 4, rng) for _ in range(2)]
    for planes in bright:
        # Or the files would pass for blank, and for one.
        planes[:, ::9, ::7] = rng.uniform(0.4, 0.6)
    paths = [write(tmp_path / f"{n}.dng", planes, 12800) for n, planes in enumerate(bright)]
    with pytest.raises(KpnError, match="ISO 12800: the flats are clipped or too small"):
        calibrate(paths)


def test_a_scene_that_moves_is_no_flat(tmp_path):
    rng = np.random.default_rng(4)
    scene = rng.uniform(0.05, 0.6, (4, 160, 240)).astype(np.float32)
    still = NoiseModel.uniform(1e-5, 1e-8)
    paths = []
    for number in range(2):
        planes = scene * np.linspace(0.1, 1, 240, dtype=np.float32) ** 2
        scene = np.roll(scene, 3, axis=2)
        planes[:, ::16] *= 1 + 0.3 * number
        paths.append(write(tmp_path / f"{number}.dng", still.sample(planes, rng), 100))
    with pytest.raises(KpnError, match=r"ISO 100: .* differs by more than noise"):
        calibrate(paths)


def test_progress_is_reported(tmp_path):
    reports = []
    paths = pairs(tmp_path, (100,), (0.01, 0.3))
    calibrate(paths, lambda done, total: reports.append((done, total)))
    assert reports == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_levels_are_of_the_planes_not_of_the_mosaic(tmp_path, monkeypatch):
    """Red and blue swap their places with the phase, not their noise."""
    monkeypatch.setattr(flat_frames, "PHASE", "RGGB")
    (level,) = calibrate(pairs(tmp_path, (100,))).levels
    np.testing.assert_allclose(level.noise.shot, truth(100).shot, rtol=0.05)
