"""A NoiseProfile that alone is wrong among those of its burst is found and replaced."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cards import write_frame

import kpn_cli
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise.odd_profiles import replace_odd_profiles
from kpn_cli.pipeline import loading
from kpn_cli.pipeline.options import Options
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info

NOISE = NoiseModel.uniform(1e-3, 2e-6)


@pytest.fixture(scope="module")
def info(tmp_path_factory) -> RawInfo:
    path = tmp_path_factory.mktemp("one") / "a.dng"
    write_frame(path, 0.0)
    return read_info(path)


def frames(info, *profiles: NoiseModel | None, isos=None) -> list[RawInfo]:
    isos = isos or [800.0] * len(profiles)
    return [
        replace(info, path=Path(f"{n}.dng"), noise_profile=profile, iso=iso)
        for n, (profile, iso) in enumerate(zip(profiles, isos, strict=True))
    ]


@pytest.mark.parametrize("odd", [0, 1, 2])
@pytest.mark.parametrize(("strength", "told"), [(4, "4 times"), (0.25, "0.25 times")])
def test_a_profile_that_alone_is_wrong_is_replaced_with_a_note(info, odd, strength, told):
    burst = frames(info, *(NOISE.with_strength(strength) if n == odd else NOISE for n in range(3)))
    found = replace_odd_profiles(burst)
    assert [each.noise_profile for each in found] == [NOISE] * 3
    (note,) = found[odd].notes
    assert note.startswith(f"its NoiseProfile states {told} the sigma of the other frames'")
    assert not any(each.notes for n, each in enumerate(found) if n != odd)


def test_profiles_are_compared_at_one_iso(info):
    isos = [100.0, 800.0, 200.0, 3200.0]
    right = [NOISE.at_iso(iso / 800) for iso in isos]
    burst = frames(info, *right, isos=isos)
    assert replace_odd_profiles(burst) == burst
    wrong = replace(burst[3], noise_profile=right[1])  # of another ISO
    found = replace_odd_profiles([*burst[:3], wrong])
    assert found[3].noise_profile.shot == pytest.approx(right[3].shot)
    assert found[:3] == burst[:3]


def test_a_wrong_read_noise_shows_between_frames_of_one_iso(info):
    wrong = NoiseModel(NOISE.shot, (1e-4,) * 4)
    found = replace_odd_profiles(frames(info, NOISE, wrong, NOISE, NOISE))
    assert found[1].noise_profile == NOISE
    # Cameras change their read noise with the ISO in many ways.
    isos = [800.0, 100.0, 800.0, 800.0]
    profiles = (NOISE, replace(NOISE.at_iso(1 / 8), read=(1.5e-6,) * 4), NOISE, NOISE)
    burst = frames(info, *profiles, isos=isos)
    assert replace_odd_profiles(burst) == burst


@pytest.mark.parametrize(
    "profiles",
    [
        (NOISE, NOISE.with_strength(4)),
        (NOISE, NOISE, NOISE.with_strength(4), NOISE.with_strength(4)),
        (NOISE, NOISE.with_strength(4), NOISE.with_strength(16)),
        (NOISE, NOISE.with_strength(1.3), NOISE.with_strength(0.9)),
        (None, None, NOISE.with_strength(4), NOISE),
        (NOISE, replace(NOISE, read=(0.0,) * 4), NOISE, NOISE),
        (None, None, None),
        (NOISE,),
    ],
)
def test_profiles_stay_where_nothing_tells_which_is_wrong(info, profiles):
    burst = frames(info, *profiles)
    assert replace_odd_profiles(burst) == burst


def test_without_read_noise_or_iso_a_profile_is_not_compared(info):
    some, none = replace(NOISE, read=(1e-5,) * 4), replace(NOISE, read=(0.0,) * 4)
    for profiles in ((none, some, some, some), (none, none, none, some, some)):
        burst = frames(info, *profiles)
        assert replace_odd_profiles(burst) == burst
    burst = frames(info, *(NOISE,) * 4, isos=[800.0, 800.0, 800.0, None])
    assert replace_odd_profiles(burst) == burst
    burst = frames(info, *(NOISE,) * 2, NOISE.with_strength(4), isos=[None] * 3)
    assert replace_odd_profiles(burst)[2].noise_profile == NOISE


#: Valid as a tag; its variance is rounded to 0.
NOTHING = NoiseModel.uniform(5e-324, 0)


@pytest.mark.parametrize(
    ("profiles", "isos", "expected"),
    [
        ((NOTHING,) * 3, None, (NOTHING,) * 3),
        ((NOTHING, NOISE, NOTHING), None, (NOTHING,) * 3),
        ((NOISE, NOTHING, NOISE), None, (NOISE,) * 3),
        # At the last one's ISO, the others' noise would be out of all range.
        ((NoiseModel.uniform(0.01, 1e-3),) * 3, [10, 10, 409600], None),
    ],
)
def test_absurd_profiles_and_isos_are_no_crash(info, profiles, isos, expected):
    found = replace_odd_profiles(frames(info, *profiles, isos=isos))
    assert tuple(each.noise_profile for each in found) == (expected or profiles)


def test_a_wrong_iso_does_not_make_a_profile_wrong(tmp_path, averaging):
    files = [tmp_path / f"{n}.dng" for n in range(4)]
    for n, path in enumerate(files):
        iso = 102400.0 if n == 2 else 800.0
        tags = {"exposure_time": 0.01 * 2.0**n, "iso": iso, "noise": NOISE}
        write_frame(path, 0.2 * n, size=(192, 256), light=0.1 * 2.0**n, **tags)
    how = Options(tmp_path / "out", formats=("dng",), weights=averaging, exposures="mixed")
    loaded = loading.load_burst(files, how, "")
    assert [info.noise_profile for info in loaded.infos] == [NOISE] * 4
    result = kpn_cli.denoise(files, how)
    (note,) = result.notes
    assert note.startswith("2.dng is 7.0 EV darker than its tags say")


def test_a_profile_is_wrong_at_a_usual_iso_whatever_the_exposure(info):
    burst = frames(info, NOISE, NOISE.with_strength(4), NOISE, NOISE)
    assert replace_odd_profiles(burst, [1])[1].noise_profile == NOISE
    burst[1] = replace(burst[1], iso=3200.0)
    assert replace_odd_profiles(burst, [1]) == burst


def test_a_wrong_profile_is_named_and_the_result_is_that_of_the_right_one(tmp_path, averaging):
    found = []
    for name, wrong in (("right", 1), ("wrong", 5)):
        for n in range(3):
            profile = NOISE.with_strength(wrong if n == 0 else 1)
            write_frame(tmp_path / name / f"{n}.dng", 0.1 * n, size=(96, 128), noise=profile)
        how = Options(
            tmp_path / "out" / name, formats=("dng",), weights=averaging, reference="first"
        )
        found.append(kpn_cli.denoise(sorted((tmp_path / name).iterdir()), how))
    right, wrong = found
    assert right.noise.model == wrong.noise.model
    assert not right.notes
    (note,) = wrong.notes
    assert note.startswith("0.dng: its NoiseProfile states 5 times the sigma of the other frames'")
    given = replace(how, noise=NOISE, overwrite=True)
    assert not kpn_cli.denoise(sorted((tmp_path / "wrong").iterdir()), given).notes
