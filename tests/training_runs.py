"""Short training runs, and how to compare what they leave."""

from __future__ import annotations

import json

import torch

from kpn_cli.network.kpn import KPNConfig
from kpn_cli.network.weights import load_tensors
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.training.config import TrainConfig

#: Twelve steps of four patches; saved after 4, 8, 12, validated after 6 and 12.
CONFIG = TrainConfig(
    patches=48,
    batch=4,
    rate=0.02,  # a thousandth of it is left by the warm-up of 200 steps
    precision="fp32",
    device="cpu",
    save_every=16,
    validate_every=24,
    network=KPNConfig(widths=(8, 8), head=8),
    data=SynthConfig(cells=16),
)


def state_of(folder):
    return load_tensors(folder / "checkpoint.safetensors")


def log_of(folder):
    """The lines of the log, but for the speed."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "speed"} for line in lines]


def same_tensors(one, two):
    assert set(one) == set(two)
    for name, value in one.items():
        assert torch.equal(two[name], value), name
