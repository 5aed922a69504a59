"""`kpn train` writes weights that denoise."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from command_line import assert_one_line, kpn

from kpn_cli.network.kpn import KPN
from kpn_cli.network.weights import load_weights, save_weights


def test_train_writes_weights_that_denoise_and_resumes(burst, tmp_path):
    import cv2
    from pictures import photo

    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "a.png"), photo(1, 300, 300))
    (photos / "b.png").write_bytes(b"no photo")
    run = tmp_path / "run"
    command = ["train", photos, "-o", run, "--batch", 1]
    first = kpn(*command, "--patches", 1)
    assert first.exit_code == 0, first.output
    assert "b.png" in first.stderr
    assert kpn(*command, "--patches", 2).exit_code == 0
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["patches"] for line in lines] == [1, 2]
    last = run / "last.safetensors"
    assert kpn("denoise", *burst[0], "-o", tmp_path / "out", "--weights", last).exit_code == 0


@pytest.mark.parametrize(
    ("options", "scales"),
    [
        ([], 2),
        (["--no-mix"], 0),
        (["--no-mix", "--variant", "blind"], 0),
        (["--variant", "direct"], 0),
    ],
)
def test_the_network_has_cross_plane_detail_unless_an_option_excludes_it(
    options, scales, tmp_path, weights
):
    import cv2
    from pictures import photo

    cv2.imwrite(str(tmp_path / "a.png"), photo(1, 280, 300))
    command = ["train", tmp_path / "a.png", "--batch", 1, "--patches", 1, *options]
    run = kpn(*command, "-o", tmp_path / "new")
    assert run.exit_code == 0, run.output
    assert load_weights(tmp_path / "new" / "last.safetensors")[0].config.scales == scales


def test_fine_tuning_adds_cross_plane_detail_to_a_network_without(tmp_path, tiny_config):
    import cv2
    from pictures import photo

    cv2.imwrite(str(tmp_path / "a.png"), photo(1, 280, 300))
    before = tmp_path / "before.safetensors"
    save_weights(before, KPN(replace(tiny_config, scales=0)), {})
    command = ["train", tmp_path / "a.png", "--batch", 1, "--patches", 1, "--init", before]
    for options, scales in (([], 2), (["--no-mix"], 0)):
        run = kpn(*command, "-o", tmp_path / f"run{scales}", *options)
        assert run.exit_code == 0, run.output
        assert (
            load_weights(tmp_path / f"run{scales}" / "last.safetensors")[0].config.scales == scales
        )
    before.unlink()  # a resumed run needs the initial weights no more
    again = kpn(*command, "--patches", 2, "-o", tmp_path / "run2")
    assert again.exit_code == 0, again.output
    with_detail = tmp_path / "run2" / "last.safetensors"
    assert_one_line(kpn(*command[:-1], with_detail, "-o", tmp_path / "no", "--no-mix"), "--no-mix")


def test_the_moving_average_and_the_cooldown_are_those_of_the_options(tmp_path, weights):
    import cv2
    from pictures import photo

    cv2.imwrite(str(tmp_path / "a.png"), photo(1, 300, 300))
    command = ["train", tmp_path / "a.png", "-o", tmp_path / "run", "--batch", 1, "--patches", 2]
    command += ["--init", weights, "--schedule", "constant", "--lr", 1.0]
    run = kpn(*command, "--ema", 0.5, "--cooldown", 2)
    assert run.exit_code == 0, run.output
    recipe = load_weights(tmp_path / "run" / "last.safetensors")[1]["train"]
    assert (recipe["average"], recipe["cooldown"]) == (0.5, 2)
    (line,) = map(json.loads, (tmp_path / "run" / "log.jsonl").read_text().splitlines())
    assert line["rate"] == 0  # after the last step
    assert_one_line(kpn(*command, "--ema", 0.9), "--ema")
