"""Several processes share a batch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from cards import EPOCH, digests, write_bursts
from command_line import KPN_PROGRAM

TORCHRUN = Path(sys.executable).with_name("torchrun")


def test_two_processes_share_the_bursts_and_print_once(tmp_path, weights):
    write_bursts(tmp_path / "card", 5)
    (tmp_path / "card" / "bad.dng").write_bytes(b"")
    options = ["--weights", weights, "--format", "dng", "--json"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    command = [KPN_PROGRAM, "denoise", tmp_path / "card", "-o", alone, *options]
    one = subprocess.run(command, capture_output=True, text=True, env=EPOCH)
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "2", "-m", "kpn_cli", "denoise"]
    command += [tmp_path / "card", "-o", shared, *options]
    two = subprocess.run(command, capture_output=True, text=True, env=EPOCH, timeout=250)
    assert one.returncode == two.returncode == 1  # the bad one
    assert digests(alone) == digests(shared)
    said = [json.loads(run.stdout) for run in (one, two)]
    for key in ("reference", "frames", "noise", "shifts"):
        assert [b[key] for b in said[0]["bursts"]] == [b[key] for b in said[1]["bursts"]]
    assert said[0]["failed"] == said[1]["failed"]
