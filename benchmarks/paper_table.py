"""The paper's table, measured with this code: train every ablation alike, write Markdown.

    python benchmarks/paper_table.py TRAIN_PHOTOS VAL_PHOTOS -o RUNS [--patches 150000]

The same command resumes: runs continue, and results newer than their weights are kept. With
150,000 patches per network it takes about nine hours on two CPU cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click

from kpn_cli.synthesis import protocol
from kpn_cli.synthesis.photos import find_photos

VARIANTS = {
    "kpn": "kernels of all frames and a dilated kernel, annealed, with the noise estimate",
    "direct": "no kernels: the robust mean of the frames plus a learned correction; not annealed",
    "single": "the reference frame alone",
    "noanneal": "`kpn` without the per-frame terms of the loss",
    "blind": "no noise estimate: input scaled as for gain 1, kernels start from the plain mean",
}
BASELINES = {
    "reference": "the noisy reference frame",
    "mean": "mean of the frames, not aligned",
    "aligned-mean": "mean of the aligned frames",
    "nlm": "non-local means on the variance-stabilised reference, scikit-image",
    "wavelets": "wavelets (BayesShrink) on the variance-stabilised reference, scikit-image",
}
GAINS = "0,1,2,4,8,16"
SETS = {"gains": "Hand-held bursts", "static": "Static bursts"}

#: Results by method: {(set, gain): {"psnr": ..., "ssim": ...}}.
Rows = dict[str, dict[tuple[str, str], dict[str, float]]]


def kpn(*arguments: object, run: bool = True) -> str:
    """Return the command line of a kpn command, and run it unless `run` is false."""
    words = [str(argument) for argument in arguments]
    if run:
        subprocess.run([sys.executable, "-m", "kpn_cli", *words], check=True, stdout=sys.stderr)
    return " ".join(["kpn", *words])


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
    rows: Rows = {}
    lines = []
    for variant in VARIANTS:
        run = output / variant
        network = ("--no-mix", "--variant", variant)
        schedule = ("--patches", patches, "--lr", lr, "--seed", seed)
        lines.append(kpn("train", photos, "--val", val, "-o", run, *network, *schedule))
        # The baselines do not depend on the network: once is enough.
        names = list(BASELINES) if variant == "kpn" else ["reference"]
        weights, figures = run / "best.safetensors", run / "eval.json"
        options = ("--gains", GAINS, "--baselines", ",".join(names), "--seed", seed)
        stale = not _fresh(figures, weights, names, val, seed)
        lines.append(kpn("eval", val, "-o", run, "--weights", weights, *options, run=stale))
        _collect(rows, variant, json.loads(figures.read_text("utf-8")))
    for path, name in (output, "RUNS"), (photos, "TRAIN_PHOTOS"), (val, "VAL_PHOTOS"):
        lines = [line.replace(f" {path}", f" {name}") for line in lines]
    results.write_text(_markdown(rows, lines, patches), encoding="utf-8")
    click.echo(results)


def _fresh(figures: Path, weights: Path, baselines: list[str], val: Path, seed: int) -> bool:
    """Whether a file holds the results of these weights under the present settings."""
    if not figures.exists() or figures.stat().st_mtime < weights.stat().st_mtime:
        return False
    found = json.loads(figures.read_text("utf-8"))
    wanted = {
        "protocol": protocol.NAME,
        "photos": [path.name for path in find_photos((val,))],
        "seed": seed,
    }
    methods = [list(gain) for gain in found["gains"].values()]
    return (
        all(found[name] == value for name, value in wanted.items())
        and list(found["gains"]) == GAINS.split(",")
        and methods == [["kpn", *baselines]] * len(methods)
    )


def _collect(rows: Rows, variant: str, found: dict[str, Any]) -> None:
    """Add the results of `kpn eval` for a variant and its baselines."""
    for part in SETS:
        for gain, methods in found[part].items():
            for name, figures in methods.items():
                rows.setdefault(variant if name == "kpn" else name, {})[part, gain] = figures


def _markdown(rows: Rows, lines: list[str], patches: int) -> str:
    text = [
        "# The paper's table, with our own figures",
        "",
        f"Each network was trained on {patches:,} patches with the same seed, data and options;",
        "the networks differ only in what the list of methods says. The protocol is",
        f"`{protocol.NAME}`; at gain 16 shot noise is 1.5 times the strongest of the training.",
        "The aligner, the guard and the green equilibration always use the true noise, whatever",
        "the network assumes. `benchmarks/paper_table.py` writes this file.",
        "The network that ships has two more blocks and had more training: 4.7 million patches.",
        "[research.md](research.md#the-papers-claims) says what follows for the paper's claims.",
        "",
        "## Methods",
        "",
        "| method | what it is |",
        "|---|---|",
        *(f"| {_label(name)} | {about} |" for name, about in (VARIANTS | BASELINES).items()),
    ]
    for part, title in SETS.items():
        gains = [gain for where, gain in rows["kpn"] if where == part]
        text += _table(
            f"{title}, PSNR in dB / SSIM",
            gains,
            {
                _label(name): [_figures(rows[name][part, gain]) for gain in gains]
                for name in (VARIANTS | BASELINES)
            },
        )
        text += _table(
            f"{title}, PSNR of `kpn` minus that of the other methods, in dB",
            gains,
            {
                _label(name): [
                    f"{rows['kpn'][part, gain]['psnr'] - rows[name][part, gain]['psnr']:+.2f}"
                    for gain in gains
                ]
                for name in (VARIANTS | BASELINES)
                if name != "kpn"
            },
        )
    text += ["", "## Commands", "", "```", *lines, "```", ""]
    return "\n".join(text)


def _label(name: str) -> str:
    return f"`{name}`"


def _figures(found: dict[str, float]) -> str:
    return f"{found['psnr']:.2f} / {found['ssim']:.3f}"


def _table(title: str, gains: list[str], rows: dict[str, list[str]]) -> list[str]:
    return [
        "",
        f"## {title}",
        "",
        f"| method | {' | '.join(f'gain {gain}' for gain in gains)} |",
        "|---" * (len(gains) + 1) + "|",
        *(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    ]


if __name__ == "__main__":
    main()
