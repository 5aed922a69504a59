"""TensorBoard gets curves and pictures."""

from __future__ import annotations

from training_runs import CONFIG

from kpn_cli.synthesis.patches import PhotoSource
from kpn_cli.training import loop


def test_tensorboard_gets_curves_and_pictures(scenes, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    loop.train(PhotoSource(scenes), scenes, tmp_path, CONFIG, tensorboard=True)
    events = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    scalars = set(events.Tags()["scalars"])
    assert {"train/loss", "train/rate", "psnr shifted/gain 1", "psnr static/gain 8"} <= scalars
    assert [event.step for event in events.Scalars("train/loss")] == [16, 24, 32, 48]
    assert set(events.Tags()["images"]) == {
        f"{name}/{title}"
        for name in ("shifted", "static", "bracket")
        for title in ("noisy, denoised, clean", "kernels")
    }
    kernels = events.Images("shifted/kernels")[-1]
    assert (kernels.width, kernels.height) == (9 * 6 * 16, 5 * 16)
