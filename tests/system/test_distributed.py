"""Several processes train as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kpn_cli.errors import KpnError
from kpn_cli.network.weights import load_tensors
from kpn_cli.system.distributed import World

TORCHRUN = Path(sys.executable).with_name("torchrun")

#: What a process trains: `python -c SCRIPT FOLDER`, alone or under torchrun.
SCRIPT = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
sys.path.insert(0, {tests!r})
from pictures import scene
from kpn_cli.training import loop
from kpn_cli.network.kpn import KPNConfig
from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.synthesis.config import SynthConfig
from kpn_cli.training.config import TrainConfig
config = TrainConfig(
    patches=int(sys.argv[2]), batch=4, rate=0.02, precision="fp32", device="cpu", save_every=8,
    network=KPNConfig(widths=(8, 8), head=8), data=SynthConfig(cells=16),
)
scenes = [scene(1, 120, 140), scene(2, 140, 120)]
told = []
loop.train(
    PhotoSource(scenes), scenes, Path(sys.argv[1]), config, on_progress=told.append,
    max_gradient_norm=1e9,  # clipped gradients are the same at any scale
)
print(len(told))
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "one.py"
    path.write_text(SCRIPT.format(tests=str(Path(__file__).parents[1])))
    return path


def start(script, folder, patches, processes):
    launcher = [sys.executable]
    if processes > 1:
        launcher = [TORCHRUN, "--standalone", "--nproc-per-node", str(processes)]
    command = [*launcher, script, folder, str(patches)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=250)


def tensors_and_losses(folder):
    tensors, header = load_tensors(folder / "checkpoint.safetensors")
    losses = [json.loads(line)["loss"] for line in (folder / "log.jsonl").open()]
    return tensors, header["recipe"]["patches"], losses


def test_two_processes_train_as_one_would(script, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    start(script, one, 4, 1)
    start(script, two, 4, 2)
    (alone, _, _), (together, _, _) = (tensors_and_losses(folder) for folder in (one, two))
    # After one step Adam's first moment is a tenth of the gradient of the whole batch.
    moments = [name for name in alone if name.endswith("exp_avg")]
    assert len(moments) == len(alone) / 5  # of each weight: itself, its mean, three of Adam
    for name in moments:
        scale = float(alone[name].abs().max())
        torch.testing.assert_close(together[name], alone[name], rtol=1e-4, atol=1e-5 * scale)
    # Resumed, both go on alike: the same data, but for the order of sums the same losses.
    said = [start(script, folder, 24, n + 1).stdout for n, folder in enumerate((one, two))]
    # The first alone reports; what two processes print may run together.
    assert [sorted("".join(text.split())) for text in said] == [["3"], ["0", "3"]]
    (_, patches, losses), (_, others, other) = (tensors_and_losses(f) for f in (one, two))
    assert patches == others == 24
    assert other == pytest.approx(losses, rel=1e-3)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}


def test_shares_of_a_batch_are_equal_and_leave_nothing():
    shares = [World(rank, 4).members(16) for rank in range(4)]
    assert [list(share) for share in shares] == [[*range(4 * r, 4 * r + 4)] for r in range(4)]


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(KpnError, match="multiple of 3"):
        World(0, 3).members(16)


def test_a_world_of_one_changes_nothing():
    alone, value = World(), torch.tensor(2.0)
    assert alone.writes
    assert alone.mean(value) is value
    assert alone.first_says(False) is False
    alone.check_same(1, "never")
    alone.wait()
    network = torch.nn.Linear(1, 1)
    assert alone.wrapped(network, torch.device("cpu")) is network


FAILING = """
import sys, torch
from kpn_cli.errors import KpnError
from kpn_cli.system.distributed import world
try:
    with world(torch.device("cpu")) as processes:
        assert processes.first_says(processes.writes)
        processes.check_same("alike", "not alike")
        if processes.rank == 1:
            raise KpnError("the disk of the second process is on fire")
        for _ in range(100):
            processes.mean(torch.ones(1))
except KpnError as error:
    sys.exit(f"rank {processes.rank}: {error}")
"""


def test_when_one_process_fails_the_others_say_so_without_a_traceback(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "2", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert run.returncode != 0
    assert "rank 1: the disk of the second process is on fire" in run.stderr
    # The launcher may end the first one before it has noticed.
    said = [line for line in run.stderr.splitlines() if line.startswith("rank 0")]
    assert said in ([], ["rank 0: torchrun: another process has stopped; its own message says why"])
    assert 'failing.py", line' not in run.stderr


def test_processes_that_see_different_runs_are_told(tmp_path):
    script = tmp_path / "different.py"
    script.write_text(
        "import sys, pathlib, torch\nfrom kpn_cli.system.distributed import world\n"
        "with world(torch.device('cpu')) as processes:\n"
        "    try: processes.check_same(processes.rank, 'not alike')\n"
        "    except Exception as error:\n"
        "        said = pathlib.Path(sys.argv[1], str(processes.rank))\n"
        "        said.write_text(f'{type(error).__name__} {error}')\n"
    )
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "2", script, tmp_path]
    subprocess.run(command, capture_output=True, timeout=250, check=True)
    # Not from their output: what two processes print at once can be cut into each other.
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["KpnError not alike"] * 2


def test_other_processes_show_their_errors_and_nothing_else(tmp_path):
    command = [sys.executable, "-m", "kpn_cli", "train", tmp_path / "none", "-o", tmp_path / "run"]
    for environment in ({"RANK": "1", "WORLD_SIZE": "2"}, {"RANK": "1"}, {}):
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
        assert run.returncode == 1
        assert run.stderr.startswith("kpn: ")
        assert "cannot be read" in run.stderr
