"""The paper's table with our own figures: train every ablation alike, compare, write Markdown.

    python benchmarks/paper_table.py TRAIN_PHOTOS VAL_PHOTOS -o RUNS [--patches 150000]

Resumable: started again, runs go on and finished ones are only evaluated. With 150,000
patches each it takes some ten hours on two CPU cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click

VARIANTS = {
    "kpn": "kernels of all frames, annealed, noise known",
    "direct": "pixels straight from the network",
    "single": "the reference frame alone",
    "noanneal": "without the per-frame terms",
    "blind": "not told the noise",
}
BASELINES = {
    "reference": "the noisy reference frame",
    "mean": "mean of the frames, unaligned",
    "aligned-mean": "mean of the aligned frames",
    "nlm": "non-local means on the reference, scikit-image, stabilised",
    "wavelets": "wavelets (BayesShrink) on the reference, scikit-image, stabilised",
}


def kpn(*arguments: object) -> str:
    """Run a command of kpn; return the line that makes the same."""
    words = [str(argument) for argument in arguments]
    subprocess.run([sys.executable, "-m", "kpn_cli", *words], check=True, stdout=sys.stderr)
    return "kpn " + " ".join(Path(word).name if "/" in word else word for word in words)


@click.command()
@click.argument("photos", type=click.Path(exists=True, path_type=Path))
@click.argument("val", type=click.Path(exists=True, path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@click.option("--patches", default=150_000, show_default=True)
@click.option("--lr", default=6e-4, show_default=True, help="At 1e-3 a run has fallen once.")
@click.option("--seed", default=0, show_default=True)
@click.option("--results", default="docs/results.md", type=click.Path(path_type=Path))
def main(
    photos: Path, val: Path, output: Path, patches: int, lr: float, seed: int, results: Path
) -> None:
    """Train, evaluate and write the table."""
    rows, lines = {}, []
    for variant in VARIANTS:
        run = output / variant
        lines.append(
            kpn(
                "train",
                photos,
                "--val",
                val,
                "-o",
                run,
                "--variant",
                variant,
                "--patches",
                patches,
                "--lr",
                lr,
                "--seed",
                seed,
            )
        )
        # The classical ones don't depend on the network: once is enough.
        names = ",".join(BASELINES) if variant == "kpn" else "reference"
        weights = run / "best.safetensors"
        lines.append(
            kpn("eval", val, "-o", run, "--weights", weights, "--baselines", names, "--seed", seed)
        )
        found = json.loads((run / "eval.json").read_text())
        for part in ("gains", "static"):
            for gain, methods in found[part].items():
                for name, figures in methods.items():
                    row = variant if name == "kpn" else name
                    rows.setdefault(row, {})[part, gain] = figures
    results.write_text(_markdown(rows, lines, patches), encoding="utf-8")
    click.echo(results)


def _markdown(rows: dict, lines: list[str], patches: int) -> str:
    text = [
        "# The paper's table, with our own figures",
        "",
        f"Each network: {patches:,} patches, the same seed, data and options but for what its",
        "name says. PSNR in dB / SSIM, protocol kpn-planes-1; written by",
        "`benchmarks/paper_table.py`.",
    ]
    for part, title in (("gains", "Hand-held bursts"), ("static", "Static bursts")):
        gains = [gain for where, gain in rows["kpn"] if where == part]
        text += ["", f"## {title}", "", f"| | {' | '.join(f'gain {g}' for g in gains)} |"]
        text.append("|---" * (len(gains) + 1) + "|")
        for name, about in (VARIANTS | BASELINES).items():
            cells = [
                f"{rows[name][part, g]['psnr']:.2f} / {rows[name][part, g]['ssim']:.3f}"
                for g in gains
            ]
            text.append(f"| **{name}**: {about} | " + " | ".join(cells) + " |")
    text += ["", "## Commands", "", "```", *lines, "```", ""]
    return "\n".join(text)


if __name__ == "__main__":
    main()
