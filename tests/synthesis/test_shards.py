"""Training bursts in tar files."""

from __future__ import annotations

import io
import json
import tarfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kpn_cli.errors import KpnError
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.synthesis import patches as synthetic_patches
from kpn_cli.synthesis import shards
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.sensor import Patch
from kpn_cli.synthesis.shards import ShardSource, encode_sample, write_shard

CONFIG = SynthConfig(cells=16)


def patches(scenes, number=5, frames=8):
    return [
        synthetic_patches.draw_patch(scenes, np.random.default_rng(n), frames, CONFIG)
        for n in range(number)
    ]


@pytest.fixture
def shard(scenes, tmp_path):
    path = tmp_path / "shard-00000.tar"
    write_shard(path, enumerate(patches(scenes)))
    return path


def test_a_burst_comes_back_within_half_a_step(scenes, shard):
    for before, after in zip(patches(scenes), [*ShardSource([shard])], strict=True):
        half = (max(before.burst.max(), 1) - min(before.burst.min(), 0)) / 65535 / 2
        np.testing.assert_allclose(after.burst, before.burst, atol=1.02 * half)
        np.testing.assert_allclose(after.target, before.target, atol=1.02 * half)
        assert after.noise == before.noise
        assert after.white == before.white


@given(st.floats(-3, 0), st.floats(0, 30))
def test_values_below_black_and_above_white_survive(low, high):
    burst = np.linspace(low, high, 4 * 4 * 4, dtype=np.float32).reshape(1, 4, 4, 4)
    patch = Patch(burst, burst[0].clip(0, 1), NoiseModel.uniform(1e-3, 1e-5), 1.0)
    sample = encode_sample(patch)
    about = sample["json"]
    scale = about["white"] - about["black"]
    back = (sample["burst.npy"].astype(np.float64) - about["black"]) / scale
    np.testing.assert_allclose(back, burst, atol=0.51 / scale + 1e-6)


def test_the_webdataset_library_reads_them(scenes, shard):
    import webdataset

    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [f"{n:09d}" for n in range(5)]
    for sample, patch in zip(samples, patches(scenes), strict=True):
        about = sample["json"]
        burst = (sample["burst.npy"] - about["black"]) / (about["white"] - about["black"])
        np.testing.assert_allclose(burst, patch.burst, atol=1e-3)
        assert about["shot"] == list(patch.noise.shot)


def test_the_same_bursts_are_the_same_bytes(scenes, shard, tmp_path):
    again = tmp_path / "again.tar"
    write_shard(again, enumerate(patches(scenes)))
    assert again.read_bytes() == shard.read_bytes()


def test_batches_are_functions_of_their_seed_and_may_be_shared(shard):
    source = ShardSource([shard])
    whole = source.draw((1, 2), range(4), CONFIG)
    shares = [source.draw((1, 2), part, CONFIG) for part in (range(1), range(1, 4))]
    for name in ("burst", "target", "shot", "read", "white"):
        parts = [getattr(share, name) for share in shares]
        assert torch.equal(getattr(whole, name), torch.cat(parts))
    other = source.draw((1, 3), range(4), CONFIG)
    assert other.burst.shape != whole.burst.shape or not torch.equal(other.burst, whole.burst)


def test_fewer_frames_are_the_first_ones(scenes, shard):
    few = SynthConfig(cells=16, frames=3, full=1)
    drawn = ShardSource([shard]).draw((0, 0), range(6), few)
    assert drawn.burst.shape == (6, 3, 4, 16, 16)
    references = [np.rint(p.target * 1000) for p in ShardSource([shard])]
    for truth in drawn.target.numpy():
        assert any(np.array_equal(np.rint(truth * 1000), r) for r in references)


def test_bursts_of_too_few_frames_are_refused(scenes, tmp_path):
    path = tmp_path / "a.tar"
    write_shard(path, enumerate(patches(scenes, 2, frames=2)))
    with pytest.raises(KpnError, match=r"bursts of 2 frames, this run needs 8.*--frames 8"):
        ShardSource([path]).draw((0, 0), range(2), SynthConfig(cells=16, full=1))


def test_tar_files_are_found_by_name_and_in_folders(shard):
    assert shards.find_shards([shard]) == [shard]
    assert shards.find_shards([shard.parent]) == [shard]
    assert shards.find_shards([shard.parent / "photo.jpg"]) == []


@pytest.mark.parametrize("keep", [0, 100, 1000, 20_000])
def test_a_truncated_shard_is_refused(shard, keep):
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(KpnError, match=r"shard-00000\.tar"):
        [*ShardSource([shard])]


def test_an_empty_or_foreign_tar_is_refused(tmp_path):
    path = tmp_path / "foreign.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.txt")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"hi"))
    with pytest.raises(KpnError, match=r"foreign\.tar: no bursts"):
        ShardSource([path])


@pytest.mark.parametrize(
    "changes",
    [
        {"shot": [1e-3]},
        {"shot": "x"},
        {"black": None},
        {"white_level": "much"},
        {"read": [-1] * 4},
        {"white_level": 0},
        {"black": 1, "white": 1},
    ],
)
def test_damaged_descriptions_are_errors(scenes, tmp_path, changes):
    sample = encode_sample(patches(scenes, 1)[0])
    path = tmp_path / "damaged.tar"
    with tarfile.open(path, "w") as tar:
        for part in ("burst.npy", "truth.npy"):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, sample[part])
            _add(tar, f"0.{part}", buffer.getvalue())
        _add(tar, "0.json", json.dumps(sample["json"] | changes).encode())
    with pytest.raises(KpnError):
        ShardSource([path])[0]


def test_pickled_arrays_are_refused(scenes, tmp_path):
    sample = encode_sample(patches(scenes, 1)[0])
    path = tmp_path / "pickled.tar"
    with tarfile.open(path, "w") as tar:
        for part in ("burst.npy", "truth.npy"):
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.array([{}], object), allow_pickle=True)
            _add(tar, f"0.{part}", buffer.getvalue())
        _add(tar, "0.json", json.dumps(sample["json"]).encode())
    with pytest.raises(KpnError, match="damaged burst"):
        ShardSource([path])[0]


def _add(tar, name, content):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def test_incomplete_shards_are_not_found(shard):
    (shard.parent / ".kpn-0123.tar").write_bytes(shard.read_bytes()[:5000])
    assert shards.find_shards([shard.parent]) == [shard]


def test_shards_and_photos_are_not_mixed(shard):
    with pytest.raises(KpnError, match=r"photo\.jpg: no shards"):
        shards.find_shards([shard, shard.parent / "photo.jpg"])


def test_shards_of_other_patches_are_refused(shard):
    with pytest.raises(KpnError, match="this run needs 32"):
        ShardSource([shard]).draw((0, 0), range(1), SynthConfig(cells=32))


def test_frames_of_a_bracket_come_back_with_their_noise_and_clipping_points(scenes, tmp_path):
    config = SynthConfig(cells=16, bracket=1, full=1)
    patch = synthetic_patches.draw_patch(scenes, np.random.default_rng(0), 4, config)
    assert len(set(patch.clip)) > 1
    write_shard(tmp_path / "shard-00000.tar", [(0, patch)])
    read = ShardSource([tmp_path / "shard-00000.tar"])[0]
    assert read.clip == pytest.approx(patch.clip)
    for one, other in zip(read.frame_noise, patch.frame_noise, strict=True):
        assert one.shot == pytest.approx(other.shot)
        assert one.read == pytest.approx(other.read)
    assert read.first(2).clip == read.clip[:2]


@pytest.mark.parametrize("change", [{"clip": [1.0]}, {"clip": [0.0] * 4}, {"shot": [[1, 2]]}])
def test_a_bracket_whose_frames_are_described_wrongly_is_refused(scenes, tmp_path, change):
    config = SynthConfig(cells=16, bracket=1, full=1)
    patch = synthetic_patches.draw_patch(scenes, np.random.default_rng(0), 4, config)
    sample = encode_sample(patch)
    sample["json"]["frames"] |= change
    path = tmp_path / "shard.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in sample.items():
            data = io.BytesIO()
            if name == "json":
                data.write(json.dumps(content).encode())
            else:
                np.save(data, content)
            member = tarfile.TarInfo(f"000000000.{name}")
            member.size = len(data.getvalue())
            tar.addfile(member, io.BytesIO(data.getvalue()))
    with pytest.raises(KpnError, match="damaged burst"):
        ShardSource([path])[0]
