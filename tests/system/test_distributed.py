"""Several processes train as one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import kpn

from kpn_cli.cli.console import is_other_rank
from kpn_cli.errors import KpnError
from kpn_cli.network.weights import load_tensors
from kpn_cli.system.distributed import ProcessGroup, local_device, process_group

TORCHRUN = Path(sys.executable).with_name("torchrun")

#: Trains a small network: `python one.py FOLDER PATCHES`, alone or under torchrun.
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
reports = []
loop.train(
    PhotoSource(scenes), scenes, Path(sys.argv[1]), config, on_progress=reports.append,
    max_gradient_norm=1e9,  # clipped gradients are the same at any scale
)
print(len(reports))
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
    # Resumed, both see the same data, and the same losses up to the order of summation.
    said = [start(script, folder, 24, n + 1).stdout for n, folder in enumerate((one, two))]
    # Only the first process reports; the output of two processes may be interleaved.
    assert [sorted("".join(text.split())) for text in said] == [["3"], ["0", "3"]]
    (_, patches, losses), (_, others, other) = (tensors_and_losses(f) for f in (one, two))
    assert patches == others == 24
    assert other == pytest.approx(losses, rel=1e-3)
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}


def test_shares_of_a_batch_are_equal_and_cover_it():
    shares = [ProcessGroup(rank, 4).share(16) for rank in range(4)]
    assert [list(share) for share in shares] == [[*range(4 * r, 4 * r + 4)] for r in range(4)]


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(KpnError, match="multiple of 3"):
        ProcessGroup(0, 3).share(16)


def test_a_group_of_one_process_changes_nothing():
    alone, value = ProcessGroup(), torch.tensor(2.0)
    assert alone.is_first
    assert alone.mean(value) is value
    assert alone.broadcast(False) is False
    alone.check_same(1, "never")
    alone.barrier()
    network = torch.nn.Linear(1, 1)
    assert alone.wrap(network, torch.device("cpu")) is network


FAILING = """
import sys, torch
from kpn_cli.errors import KpnError
from kpn_cli.system.distributed import process_group
try:
    with process_group(torch.device("cpu")) as processes:
        assert processes.broadcast(processes.is_first)
        processes.check_same("alike", "not alike")
        if processes.rank == 1:
            raise KpnError("the disk of the second process is on fire")
        for _ in range(100):
            processes.mean(torch.ones(1))
except KpnError as error:
    # At once with its newline: both processes may write at the same time.
    sys.stderr.write(f"rank {processes.rank}: {error}\\n")
    sys.exit(1)
"""


def test_when_one_process_fails_the_others_say_so_without_a_traceback(tmp_path):
    script = tmp_path / "failing.py"
    script.write_text(FAILING)
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "2", script]
    run = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert run.returncode != 0
    assert "rank 1: the disk of the second process is on fire" in run.stderr
    # The launcher may end the first process before it notices.
    said = [line for line in run.stderr.splitlines() if line.startswith("rank 0")]
    assert said in ([], ["rank 0: torchrun: another process has stopped; its own message says why"])
    assert 'failing.py", line' not in run.stderr


def test_processes_with_different_values_all_raise_the_error(tmp_path):
    script = tmp_path / "different.py"
    script.write_text(
        "import sys, pathlib, torch\nfrom kpn_cli.system.distributed import process_group\n"
        "with process_group(torch.device('cpu')) as processes:\n"
        "    try: processes.check_same(processes.rank, 'not alike')\n"
        "    except Exception as error:\n"
        "        said = pathlib.Path(sys.argv[1], str(processes.rank))\n"
        "        said.write_text(f'{type(error).__name__} {error}')\n"
    )
    command = [TORCHRUN, "--standalone", "--nproc-per-node", "2", script, tmp_path]
    subprocess.run(command, capture_output=True, timeout=250, check=True)
    # Not from their output: lines that two processes print at once may be interleaved.
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["KpnError not alike"] * 2


def test_every_process_prints_its_error_in_one_line(tmp_path):
    command = [sys.executable, "-m", "kpn_cli", "train", tmp_path / "none", "-o", tmp_path / "run"]
    for environment in ({"RANK": "1", "WORLD_SIZE": "2"}, {"RANK": "1"}, {}):
        run = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
        assert run.returncode == 1
        assert run.stderr.startswith("kpn: ")
        assert "cannot be read" in run.stderr


@pytest.mark.parametrize("text", ["", " ", "two", "-1", "1.5", "²"])
def test_variables_that_torchrun_has_not_set_are_ignored(monkeypatch, text):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, text)
    with process_group() as processes:
        assert (processes.rank, processes.size) == (0, 1)
    assert not is_other_rank()
    assert local_device(torch.device("cuda")) == torch.device("cuda")
    assert kpn("info", "missing.dng").exit_code == 1  # and not a bug
