"""Data sets that a cluster writes have the same bytes as those of one process."""

from __future__ import annotations

import cv2
import pytest
from cards import digests
from command_line import kpn
from pictures import photo

from kpn_cli.synthesis import dataset, on_cluster
from kpn_cli.synthesis.dataset import DatasetConfig, write_dataset
from kpn_cli.synthesis.photos import find_photos
from kpn_cli.system.cluster import connect
from kpn_cli.system.shared import shared_paths


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(2):
        cv2.imwrite(str(folder / f"{number}.png"), photo(number, 280, 300))
    return folder


def test_workers_give_the_same_bytes(photos, tmp_path, dask_cluster):
    for form, count in (("dng", 3), ("shards", 130)):
        alone, shared = tmp_path / form, tmp_path / f"cluster-{form}"
        config = DatasetConfig(count, 1, form, seed=7)
        write_dataset(find_photos([photos]), alone, config)
        command = ["synth", photos, "-o", shared, "--count", count, "--frames", 1]
        command += ["--format", form, "--seed", 7]
        result = kpn(*command, "--dask", dask_cluster.scheduler_address)
        assert result.exit_code == 0, result.output
        assert digests(shared) == digests(alone)


def test_a_part_that_cannot_be_written_is_a_line(photos, tmp_path, dask_cluster):
    config = DatasetConfig(2, 1, seed=7)
    with connect(dask_cluster.scheduler_address) as cluster:
        (tmp_path / "set").mkdir()
        missing = photos / "missing.png"
        parts = on_cluster.write_parts(cluster, [missing], tmp_path / "set", config, [0])
        with pytest.raises(Exception, match="missing"):
            list(parts)


def test_a_part_that_another_worker_has_written_stays(photos, tmp_path):
    config = DatasetConfig(1, 1, seed=7)
    paths = find_photos([photos])
    write_dataset(paths, tmp_path, config)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    order = on_cluster.Order("run", tuple(paths), tmp_path, config, shared_paths(tmp_path, paths))
    assert on_cluster._write(0, order)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == stamps


def test_ctrl_c_says_how_to_continue(photos, tmp_path, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "write_dataset", interrupted)
    result = kpn("synth", photos, "-o", tmp_path, "--count", 1)
    assert result.exit_code == 130
    assert result.stderr == "interrupted; run the same command again to continue\n"


def test_workers_and_dask_exclude_each_other_before_photos_are_read(tmp_path):
    (tmp_path / "no_photo.png").touch()
    result = kpn("synth", tmp_path, "-o", tmp_path / "set", "--workers", 2, "--dask", "local")
    assert result.exit_code == 2
    assert "exclude each other" in result.stderr
