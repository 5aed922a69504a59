"""Free memory respects the limits of control groups."""

from __future__ import annotations

import torch

from kpn_cli.system import memory


def test_free_memory_is_limited_by_the_control_group(tmp_path, monkeypatch):
    group = tmp_path / "user" / "job"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000\n")
    (group / "memory.stat").write_text("")
    (tmp_path / "user" / "memory.stat").write_text("anon 5\nactive_file 300\ninactive_file 200\n")
    (tmp_path / "user" / "memory.max").write_text("5000\n")
    (tmp_path / "user" / "memory.current").write_text("2000\n")
    monkeypatch.setattr(memory, "control_groups", lambda: [group, group.parent, tmp_path])
    assert memory.free_memory(torch.device("cpu")) == 3500
    monkeypatch.setattr(memory, "control_groups", list)
    assert memory.free_memory(torch.device("cpu")) > 1 << 20
