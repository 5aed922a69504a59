"""Which noise model is used, and when the user is warned."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from command_line import kpn
from pictures import planes

from kpn_cli.align import block_matching
from kpn_cli.burst.frame import Frame
from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.noise import estimation, selection
from kpn_cli.noise.calibration import Calibration, IsoNoise
from kpn_cli.noise.selection import NoiseReport, choose_noise
from kpn_cli.output import dng_tags, dng_writer
from kpn_cli.raw.info import RawInfo
from kpn_cli.raw.reader import read_info


def test_the_iso_table_is_used_if_the_frames_agree(bare_info):
    noise = estimation.from_iso(3200)
    frames = [_again(noise, seed) for seed in (1, 2)]
    shifts = [_still(frames[0])] * 2
    assert choose_noise(replace(bare_info, iso=3200.0), frames, shifts).source == "iso"


def test_a_profile_that_the_frames_contradict_is_used_with_a_warning(bare_info):
    true = NoiseModel.uniform(1e-3, 1e-5)
    frames = [_again(true, seed) for seed in (1, 2)]
    shifts = [_still(frames[0])] * 2
    wrong = true.with_strength(0.2)
    report = choose_noise(replace(bare_info, noise_profile=wrong), frames, shifts)
    assert (report.source, report.model) == ("profile", wrong)
    assert "5" in report.warning or "4." in report.warning
    right = choose_noise(replace(bare_info, noise_profile=true), frames, shifts)
    assert right.warning == ""


@pytest.mark.parametrize("source", ["given", "profile", "iso"])
def test_where_a_model_understates_the_noise_what_frames_show_is_used_with_a_warning(source):
    """Up to twice the sigma, from where on two estimates contradict each other."""
    true, rng = NoiseModel.uniform(1e-3, 1e-5), np.random.default_rng(0)
    scene = planes(1, 300, 300)
    scene[:, :, 150:] = 0.2
    frames = [Frame(torch.from_numpy(true.sample(scene, rng)), noise=true) for _ in range(4)]
    shifts = [_still(frames[0])] * 4
    for factor, words in ((1, ""), (1.5, ""), (0.85, "")):
        report = NoiseReport(source, true.with_strength(factor))
        found, same = selection.raise_if_understated(report, frames, shifts)
        assert found == report and found.warning == words
        assert same == frames
    for factor, used, words in ((0.7, 1, "1.4 times"), (0.3, 0.6, "2 times the stated sigma, or")):
        stated = true.with_strength(factor)
        told = [replace(frame, noise=stated) for frame in frames]
        found, raised = selection.raise_if_understated(NoiseReport(source, stated), told, shifts)
        assert words in found.warning and found.observed == 1
        for model in (found.model, *[frame.noise for frame in raised]):
            assert model.shot[0] == pytest.approx(used**2 * true.shot[0], rel=0.06)
            assert model.read[0] == pytest.approx(used**2 * true.read[0], rel=0.06)
    warned = NoiseReport(source, true.with_strength(0.7), warning="ISO 50 is extrapolated")
    told = [replace(frame, noise=warned.model) for frame in frames]
    found, _ = selection.raise_if_understated(warned, told, shifts)
    assert found.model.shot[0] == pytest.approx(true.shot[0], rel=0.06)
    assert found.warning.startswith("ISO 50 is extrapolated; the frames show 1.4 times")
    measured = NoiseReport("measured", true.with_strength(0.7))
    found, same = selection.raise_if_understated(measured, frames, shifts)
    assert (found, found.observed, same) == (measured, 1, frames)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_given_model_that_overstates_the_noise_is_used_with_a_warning(count):
    true, rng = NoiseModel.uniform(1e-3, 1e-5), np.random.default_rng(0)
    frames = [Frame(torch.from_numpy(true.sample(planes(1, 96, 96), rng))) for _ in range(count)]
    shifts = [_still(frames[0])] * count
    for factor, words in ((1.5, ""), (2.1, "0.4"), (6, "0.1")):
        report = NoiseReport("given", true.with_strength(factor), "another warning")
        found = selection.warn_if_overstated(report, frames, shifts)
        assert found.model == report.model
        first, *more = found.warning.split("; ", 1)
        assert first == "another warning"
        assert words in more[0] and "texture may be smeared" in more[0] if words else not more


@pytest.mark.parametrize(
    ("level", "lowest", "sigma", "why"),
    [
        (0.0, 64, 5.0, "clipped at black"),
        (1.5, 0, 5.0, "clipped at white"),
        (0.2, 0, 0.2, "the file's numbers are too coarse for the noise"),
    ],
)
@pytest.mark.parametrize("count", [1, 4])
def test_frames_that_cannot_show_the_noise_cause_no_warning(level, lowest, sigma, why, count):
    rng = np.random.default_rng(0)
    noise = NoiseModel.uniform(1e-9, (sigma / (1023 - 64)) ** 2)
    scene = 64 + (1023 - 64) * np.full((4, 150, 150), level)
    frames = [
        Frame(
            torch.from_numpy(
                np.rint(scene + rng.normal(0, sigma, scene.shape))
                .clip(lowest, 1023)
                .astype(np.uint16)
            ),
            (64.0,) * 4,
            1023.0,
        )
        for _ in range(count)
    ]
    shifts = [torch.zeros(10, 10, 2, dtype=torch.int64)] * count
    report = NoiseReport("given", noise.with_strength(2))
    assert selection.warn_if_overstated(report, frames, shifts) == report, why


def test_a_profile_without_read_noise_gets_that_of_the_frames(bare_info):
    true = NoiseModel.uniform(1e-3, 1e-4)
    frames = [_again(true, seed) for seed in (1, 2)]
    shifts = [_still(frames[0])] * 2
    phone = NoiseModel(true.shot, (0.0,) * 4)
    report = choose_noise(replace(bare_info, noise_profile=phone), frames, shifts)
    assert report.model.shot == phone.shot
    np.testing.assert_allclose(report.model.read, true.read, rtol=0.5)
    assert "shadow" in report.warning


def test_frames_that_cannot_be_measured_get_the_table_for_their_iso(
    weights, tmp_path, monkeypatch, bare_info
):
    def fail(*frames: np.ndarray) -> NoiseModel:
        raise KpnError("all of it is clipped: give --noise S,O")

    monkeypatch.setattr(estimation, "measure_blocks", fail)
    frame = np.random.default_rng(0).integers(4000, 9000, (24, 30)).astype(np.uint16)
    info = replace(bare_info, height=24, width=30)
    for iso, code in ((3200.0, 0), (None, 1)):
        path = tmp_path / f"{code}.dng"
        dng_writer.write_cfa_dng(path, frame, replace(dng_tags.tags_of(info), iso=iso, noise=None))
        result = kpn("denoise", path, "-o", tmp_path / "out", "--weights", weights, "--json")
        assert result.exit_code == code, result.output
        if iso:
            assert json.loads(result.stdout)["bursts"][0]["noise"]["source"] == "iso"
        else:
            assert path.name in result.stderr


def _again(noise: NoiseModel, seed: int = 9) -> Frame:
    sample = noise.sample(planes(1, 200, 200), np.random.default_rng(seed))
    return Frame(torch.from_numpy(sample))


def _still(frame: Frame) -> torch.Tensor:
    return torch.zeros_like(block_matching.Aligner(frame.samples[1]).align(frame.samples[1]))


@pytest.fixture(scope="module")
def bare_info(burst) -> RawInfo:
    """What a frame says, without a noise profile and ISO."""
    return replace(read_info(burst[0][0]), noise_profile=None, iso=None)


@pytest.mark.parametrize("stated", ["profile", "iso", "nothing"])
def test_frames_that_differ_by_next_to_no_noise_raise_an_alarm(bare_info, stated):
    """One picture and its copies, each changed by a few hundredths of the noise."""
    noise = estimation.from_iso(3200)
    first = _again(noise, 1)
    rng = np.random.default_rng(0)
    small = np.float32(0.03 * 5e-3)
    frames = [first] + [
        replace(first, samples=first.samples + small * torch.from_numpy(
            rng.standard_normal(first.samples.shape, np.float32)))
        for _ in range(3)
    ]  # fmt: skip
    facts = {"profile": {"noise_profile": noise, "iso": None}, "iso": {"iso": 3200.0}}
    info = replace(bare_info, **facts.get(stated, {"iso": None}))
    report = choose_noise(info, frames, [_still(first)] * 4)
    assert "copies" in report.warning
    if stated != "nothing":
        assert estimation.sigma_ratio(report.model, noise) > 0.5


def test_a_picture_as_clean_as_its_differences_raises_no_alarm(bare_info):
    """As after noise reduction in the camera, or with a wrong ISO."""
    clean, rng = estimation.from_iso(3200).with_strength(0.1), np.random.default_rng(0)
    ramp = np.broadcast_to(np.linspace(0.02, 0.5, 200, dtype=np.float32), (4, 200, 200))
    frames = [Frame(torch.from_numpy(clean.sample(ramp, rng))) for _ in range(2)]
    report = choose_noise(replace(bare_info, iso=3200.0), frames, [_still(frames[0])] * 2)
    assert (report.source, report.warning) == ("measured", "")


# --- frames of different exposure -------------------------------------------


def profiles(*isos):
    """A profile for each ISO: not in proportion, as each is the camera's own."""
    return [NoiseModel.uniform(1e-5 * iso**0.9, 1e-9 * iso) for iso in isos]


def test_each_frame_of_a_bracket_has_its_own_profile(bare_info):
    isos, own = (100.0, 800.0, 100.0), profiles(100, 800, 50)
    infos = [
        replace(bare_info, iso=iso, noise_profile=model)
        for iso, model in zip(isos, own, strict=True)
    ]
    report = NoiseReport("profile", own[0])
    assert selection.noise_of_frames(infos, report, None) == own
    without = [infos[0], replace(infos[1], noise_profile=None), infos[2]]
    assert selection.noise_of_frames(without, report, None) == [own[0], own[0].at_iso(8), own[2]]
    noiseless = NoiseModel(own[1].shot, (0, 0, 0, 0))
    infos[1] = replace(infos[1], noise_profile=noiseless)
    second = selection.noise_of_frames(infos, report, None)[1]
    assert second.shot == own[1].shot
    assert min(second.read) > 0  # else shadows would be noiseless


@pytest.mark.parametrize("source", ["iso", "measured", "given"])
def test_without_profiles_a_frame_has_the_reference_s_noise_at_its_iso(bare_info, source):
    """Profiles do not count where the reference's noise is from elsewhere."""
    model = NoiseModel.uniform(1e-3, 1e-5)
    infos = [
        replace(bare_info, iso=iso, noise_profile=profiles(iso or 1)[0] if n else None)
        for n, iso in enumerate((400.0, 100.0, 1600.0, None))
    ]
    given = model if source == "given" else None
    found = selection.noise_of_frames(infos, NoiseReport(source, model), given)
    assert found == [model, model.at_iso(0.25), model.at_iso(4), model]


def test_a_calibration_states_the_noise_of_every_frame_by_its_iso(bare_info):
    first, second = profiles(100, 400)
    levels = (IsoNoise(100.0, first, 5), IsoNoise(400.0, second, 5))
    camera = Calibration(bare_info.make, bare_info.model, levels)
    infos = [replace(bare_info, iso=iso, noise_profile=None) for iso in (400.0, 100.0, 400.0)]
    report = NoiseReport("given", second)
    assert selection.noise_of_frames(infos, report, camera) == [second, first, second]
