"""Weights and a checkpoint written by an earlier version load, resume and give the same result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from kpn_cli.network.kpn import KPNConfig
from kpn_cli.network.weights import load_tensors, load_weights
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.training import loop
from kpn_cli.training.config import TrainConfig

EARLIER = Path(__file__).parent / "earlier_run"
CONFIG = TrainConfig(
    patches=8,
    batch=2,
    rate=0.05,
    precision="fp32",
    device="cpu",
    save_every=4,
    validate_every=4,
    workers=1,
    seed=3,
    network=KPNConfig(widths=(4, 4), head=4, frames=3),
    data=SynthConfig(cells=16, frames=3, bracket=0, uneven=0, defects=1, row_noise=1, misjudged=0),
)


def test_earlier_weights_load_with_every_value_and_their_recipe():
    network, recipe = load_weights(EARLIER / "last.safetensors")
    stored, _ = load_tensors(EARLIER / "last.safetensors")
    assert network.config == CONFIG.network
    assert recipe["patches"] == 4
    for name, value in network.state_dict().items():
        assert torch.equal(value, stored[name])


def test_an_earlier_run_resumes_and_ends_where_the_earlier_version_ended(scenes, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in ("checkpoint.safetensors", "last.safetensors", "log.jsonl"):
        shutil.copy(EARLIER / name, folder)
    loop.train(PhotoSource(scenes), scenes, folder, CONFIG)
    now, header = load_tensors(folder / "last.safetensors")
    before, header_before = load_tensors(EARLIER / "resumed.safetensors")
    assert header["recipe"].pop("best") == pytest.approx(header_before["recipe"].pop("best"), 1e-3)
    del header["recipe"]["ranges"]  # which the earlier version did not record
    for shape in (header_before["config"], header_before["recipe"]["train"]["network"]):
        assert not shape.pop("noise_ratios")  # which no network has since
    for shape in (header["config"], header["recipe"]["train"]["network"]):
        assert not shape.pop("extra_blocks")  # which came later
    assert header == header_before
    start, _ = load_tensors(EARLIER / "last.safetensors")
    assert any(not torch.equal(now[name], start[name]) for name in now)
    for name, value in before.items():
        # Not bit by bit: other processors add in another order.
        torch.testing.assert_close(now[name], value, rtol=1e-4, atol=1e-6)
    lines, expected = (
        [json.loads(line) for line in path.read_text().splitlines()]
        for path in (folder / "log.jsonl", EARLIER / "resumed.jsonl")
    )
    assert [line.keys() for line in lines] == [line.keys() for line in expected]
    for line, other in zip(lines, expected, strict=True):
        assert line["patches"] == other["patches"]
        assert line["loss"] == pytest.approx(other["loss"], rel=1e-4)
        for name in ("shifted", "static"):  # brackets look different to the network since
            row = other["table"][name]
            assert line["table"][name] == pytest.approx(row, abs=0.01)
