"""`kpn eval` prints and writes its tables."""

from __future__ import annotations

import json

from command_line import assert_one_line, kpn

from kpn_cli.synthesis import protocol


def test_eval_writes_tables_and_prints_json(tmp_path, weights):
    import cv2
    from pictures import photo

    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in (1, 2):
        cv2.imwrite(str(photos / f"{seed}.png"), photo(seed, 280, 300))
    command = ["eval", photos, "-o", tmp_path / "out", "--gains", "1,8", "--weights", weights]
    document = json.loads(kpn(*command, "--json").stdout)
    assert document["protocol"] == protocol.NAME
    for row in document["static"].values():
        # Of equal frames with independent noise, the mean has 9 dB over one; the gamma curve
        # and clipping at 0 and 1 take some.
        assert row["mean"]["psnr"] > row["reference"]["psnr"] + 5
        assert row["mean"] == row["aligned-mean"]
    assert json.loads((tmp_path / "out" / "eval.json").read_text()) == document
    table = (tmp_path / "out" / "eval.md").read_text()
    assert "| aligned-mean |" in table
    # The heading tells tables of other weights, frames or noise apart.
    assert table.startswith(
        f"{weights} weights, 2 photos, bursts of 8 frames, noise sigma 1 times the true one"
    )
    assert document["weights"] == str(weights)
    assert json.loads(kpn(*command, "--json").stdout) == document
    assert_one_line(kpn("eval", photos, "--gains", "3"), "--gains 3")
