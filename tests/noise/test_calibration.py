from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import flat_frames
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kpn_cli.defects.defect_list import DefectList
from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise import calibration
from kpn_cli.noise.calibration import Calibration, IsoNoise
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info

LEVELS = (
    IsoNoise(100.0, NoiseModel((4e-6, 5e-6, 5e-6, 6e-6), (5e-9, 6e-9, 7e-9, 9e-9)), 5),
    IsoNoise(800.0, NoiseModel((3e-5, 4e-5, 4e-5, 5e-5), (4e-8, 5e-8, 5e-8, 8e-8)), 4, "a note"),
    IsoNoise(6400.0, NoiseModel((2e-4, 3e-4, 3e-4, 4e-4), (9e-7, 1e-6, 1e-6, 2e-6)), 5),
)
CAMERA = Calibration("Maker", "Flat 1", LEVELS)
DOCUMENT = calibration.to_json(CAMERA)
LISTING = replace(CAMERA, defects=DefectList(40, 60, (0, 7, 39), (3, 59, 0)))
DEFECTS = {"height": 40, "width": 60, "rows": [0, 7, 39], "columns": [3, 59, 0]}


@pytest.fixture(scope="module")
def info(tmp_path_factory) -> RawInfo:
    path = tmp_path_factory.mktemp("info") / "a.dng"
    noisy = flat_frames.truth(400).sample(flat_frames.flat(0.2, 40, 40), np.random.default_rng(0))
    return read_info(flat_frames.write(path, noisy, 400))


# --- by ISO -----------------------------------------------------------------


@pytest.mark.parametrize("level", LEVELS, ids=lambda level: f"{level.iso:g}")
def test_at_a_calibrated_iso_the_noise_is_the_measured_one(level, info):
    at = replace(info, iso=level.iso)
    assert CAMERA.noise_of(at) == level.noise
    assert CAMERA.warning(at) == ""


def coefficients(iso: float, info: RawInfo) -> np.ndarray:
    found = CAMERA.noise_of(replace(info, iso=iso))
    return np.array([found.shot, found.read])


@given(low=st.floats(100, 6400), high=st.floats(100, 6400))
def test_between_two_isos_noise_grows_and_stays_between_theirs(low, high, info):
    low, high = sorted((low, high))
    one, other = coefficients(low, info), coefficients(high, info)
    assert np.all(one <= other * (1 + 1e-9))
    assert np.all(one >= coefficients(100, info) * (1 - 1e-9))
    assert np.all(other <= coefficients(6400, info) * (1 + 1e-9))
    assert CAMERA.warning(replace(info, iso=high)) == ""


def test_in_the_middle_of_two_isos_the_noise_is_the_geometric_mean(info):
    ends = coefficients(100, info) * coefficients(800, info)
    np.testing.assert_allclose(coefficients(100 * 8**0.5, info), np.sqrt(ends))


@pytest.mark.parametrize(("iso", "nearest"), [(50, 100), (25, 100), (12800, 6400), (51200, 6400)])
def test_beyond_the_isos_noise_follows_the_amplification_with_a_warning(iso, nearest, info):
    gain = iso / nearest
    shot, read = coefficients(iso, info) / coefficients(nearest, info)
    np.testing.assert_allclose(shot, gain)
    np.testing.assert_allclose(read, gain**2)
    warning = CAMERA.warning(replace(info, iso=float(iso)))
    assert f"ISO {iso}" in warning
    assert "100 to 6400" in warning


def test_a_single_iso_serves_for_all(info):
    one = replace(CAMERA, levels=LEVELS[:1])
    assert one.noise_of(replace(info, iso=200.0)) == LEVELS[0].noise.scaled(2)
    assert "ISO 100" in one.warning(replace(info, iso=200.0))


def test_another_camera_is_refused(info):
    with pytest.raises(KpnError, match=r"a\.dng: taken with Maker Flat 2, but .* Maker Flat 1"):
        CAMERA.noise_of(replace(info, model="Flat 2"))
    assert CAMERA.noise_of(replace(info, make="MAKER ")) == CAMERA.noise_of(info)


def test_a_file_without_iso_is_refused(info):
    with pytest.raises(KpnError, match=r"a\.dng: states no ISO.*--noise S,O"):
        CAMERA.noise_of(replace(info, iso=None))


def test_an_extrapolation_that_is_no_noise_names_the_calibration(info):
    loud = IsoNoise(1.0, NoiseModel((1.0,) * 4, (1.0,) * 4), 1)
    camera = replace(CAMERA, levels=(loud,), path=Path("camera.json"))
    with pytest.raises(KpnError, match=r"camera\.json: gives no noise for ISO 25600 of a\.dng"):
        camera.noise_of(replace(info, iso=25600.0))


# --- the file ---------------------------------------------------------------


def test_a_calibration_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "camera.json"
    calibration.save_calibration(path, CAMERA)
    assert calibration.load_calibration(path) == replace(CAMERA, path=path)
    document = json.loads(path.read_text("utf-8"))
    assert document["kpn"] == "noise-1"
    assert document["levels"][0] == {
        "iso": 100.0,
        "shot": [4e-6, 5e-6, 5e-6, 6e-6],
        "read": [5e-9, 6e-9, 7e-9, 9e-9],
        "pairs": 5,
    }
    assert list(tmp_path.iterdir()) == [path]


def test_a_list_of_defects_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "camera.json"
    calibration.save_calibration(path, LISTING)
    assert calibration.load_calibration(path) == replace(LISTING, path=path)
    document = json.loads(path.read_text("utf-8"))
    assert document == json.loads(json.dumps(calibration.to_json(LISTING)))
    assert document["defects"] == DEFECTS
    none = replace(CAMERA, defects=DefectList(40, 60, (), ()))
    calibration.save_calibration(path, none)
    assert calibration.load_calibration(path) == replace(none, path=path)


def test_files_without_a_list_of_defects_are_still_read(tmp_path):
    """Earlier versions wrote none."""
    path = tmp_path / "camera.json"
    path.write_text(json.dumps(DOCUMENT))
    assert calibration.load_calibration(path) == replace(CAMERA, path=path)
    assert "defects" not in DOCUMENT


def test_a_list_of_as_many_defects_as_there_can_be_is_read(tmp_path):
    path = tmp_path / "camera.json"
    places = tuple(range(240_000))
    longest = replace(CAMERA, defects=DefectList(4000, 6000, places, places[::-1]))
    calibration.save_calibration(path, longest)
    assert calibration.load_calibration(path).defects == longest.defects
    assert path.read_text().count("\n") < 60


def test_a_list_of_defects_that_does_not_fit_a_file_is_told(info):
    assert LISTING.warning(replace(info, height=40, width=60)) == ""
    warning = replace(LISTING, path=Path("camera.json")).warning(info)
    assert warning.startswith("camera.json lists defects of pictures of 60x40 pixels")
    assert "not used" in warning
    both = LISTING.warning(replace(info, iso=12800.0))
    assert "extrapolated" in both and "lists defects" in both
    none = replace(CAMERA, defects=DefectList(40, 60, (), ()))
    assert none.warning(info) == ""


def test_only_calibrations_and_empty_files_are_replaceable(tmp_path):
    path = tmp_path / "camera.json"
    assert calibration.is_replaceable(path)
    for text in ("", json.dumps(DOCUMENT), '{"kpn": "noise-2"}'):
        path.write_text(text)
        assert calibration.is_replaceable(path)
    for text in ("{", "[]", "{}", '{"kpn": 1}', "[" * 100_000, "\udcff"):
        path.write_text(text, errors="surrogateescape")
        assert not calibration.is_replaceable(path)
    assert not calibration.is_replaceable(tmp_path)


def changed(**changes: object) -> str:
    return json.dumps(DOCUMENT | changes)


def level(**changes: object) -> str:
    return changed(levels=[DOCUMENT["levels"][0] | changes])


def listing(**changes: object) -> str:
    return changed(defects=DEFECTS | changes)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "it is no JSON"),
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("[]", "holds no noise"),
        ("{}", "holds no noise"),
        (changed(kpn="noise-2"), "noise-2"),
        (changed(kpn=["noise-1"]), "noise-1"),
        (changed(make=1), "not text"),
        (changed(levels=[]), "no ISO"),
        (changed(levels=None), "NoneType"),
        (changed(levels=[3]), "damaged"),
        (changed(levels=DOCUMENT["levels"][:1] * 2), "twice"),
        (level(iso=0), "not above 0"),
        (level(iso=float("nan")), "not above 0"),
        (level(iso=5e-324), "ISO 4.94066e-324 is not that of a camera"),
        (level(iso=1e308), "not that of a camera"),
        (level(iso=True), "not a number"),
        (level(iso=10**400), "too large"),
        (level(shot=[1e-6] * 3), "four numbers"),
        (level(read=[0] * 4), "not above 0"),
        (level(read=["1"] * 4), "not a number"),
        (level(shot=[1e9] * 4), "four numbers"),
        ('{"kpn": "noise-1", "make": "a"}', "'model' is missing"),
        (changed(defects=[]), "list of defects is damaged"),
        (changed(defects=None), "list of defects is damaged"),
        (changed(defects={"height": 40, "width": 60, "rows": []}), "'columns' is missing"),
        (listing(rows="0 7 39"), "something else than numbers"),
        (listing(rows=[0, 7, 3.5]), "something else than numbers"),
        (listing(rows=[0, 7, True]), "something else than numbers"),
        (listing(columns=[[1], [2], [3]]), "something else than numbers"),
        (listing(rows=[0, 7]), "a row and a column"),
        (listing(rows=[0, 7, -1]), "a row and a column"),
        (listing(columns=[0, 7, 10**400]), "a row and a column"),
        (listing(height=0), "without size"),
        (listing(width=60.5), "something else than numbers"),
        (listing(rows=[3] * 25, columns=[3] * 25), "more than 1 %"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused_with_the_reason(text, word, tmp_path):
    path = tmp_path / "camera.json"
    path.write_text(text)
    with pytest.raises(KpnError, match=word) as caught:
        calibration.load_calibration(path)
    assert "camera.json" in str(caught.value)
    assert "kpn calibrate" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_an_error_for_the_user(name, tmp_path):
    with pytest.raises(KpnError, match="cannot be read"):
        calibration.load_calibration(tmp_path / name)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=10,
)


def _load(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    try:
        found = calibration.load_calibration(path)
    except KpnError as error:
        assert "\n" not in str(error)
    else:
        assert found.levels
        if found.defects is not None:
            assert len(found.defects.rows) == len(found.defects.columns)


same_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@same_folder
@given(at=st.integers(0, 10_000), cut=st.integers(0, 40), put=st.binary(max_size=20))
def test_damage_anywhere_is_never_a_traceback(at, cut, put, tmp_path):
    data = json.dumps(DOCUMENT).encode()
    at %= len(data)
    _load(tmp_path / "camera.json", data[:at] + put + data[at + cut :])


@same_folder
@given(key=st.sampled_from(sorted(DOCUMENT)), value=ANY_JSON)
def test_any_value_anywhere_is_never_a_traceback(key, value, tmp_path):
    _load(tmp_path / "camera.json", json.dumps(DOCUMENT | {key: value}).encode())


@same_folder
@given(key=st.sampled_from(["iso", "shot", "read", "pairs", "note"]), value=ANY_JSON)
def test_any_value_in_a_level_is_never_a_traceback(key, value, tmp_path):
    _load(tmp_path / "camera.json", level(**{key: value}).encode())


@same_folder
@given(key=st.sampled_from(sorted(DEFECTS)), value=ANY_JSON | st.lists(st.integers(), max_size=3))
def test_any_value_in_a_list_of_defects_is_never_a_traceback(key, value, tmp_path):
    _load(tmp_path / "camera.json", listing(**{key: value}).encode())
