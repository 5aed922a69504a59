"""`kpn denoise --crop`: a part of each burst at several strengths, one picture for each burst."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..errors import KpnError
from ..pipeline.comparison import Comparison, compare
from ..pipeline.denoise import Engine
from ..pipeline.loading import READERS
from ..pipeline.options import Options
from ..pipeline.result import Failure
from ..raw.decoder_process import Decoders
from ..system.distributed import launched
from .plan import GroupingOptions, make_plan
from .read_ahead import Summary, options_of, outcome_of, result_or_error
from .run import View, plan_with


def options_of_plan(options: Options) -> Options:
    """Return the options to plan comparisons with: a picture has a name that no raw file has."""
    return replace(options, formats=("jpeg",))


def compare_all(
    paths: Sequence[Path],
    options: Options,
    how: GroupingOptions,
    comparison: Comparison,
    view: View,
    *,
    failures: Sequence[Failure] = (),
    use_cache: bool = True,
) -> Summary:
    """Find bursts and compare a part of each, one after the other.

    Args:
        paths: files and folders.
        options: how to denoise.
        how: how to group files.
        comparison: the part and the strengths.
        view: shows the progress.
        failures: what the user named and could not be found.
        use_cache: whether files that earlier runs have read are not read again for the plan.

    Returns:
        The summary of all bursts; a failure does not stop the others.

    Raises:
        KpnError: if no burst can be denoised, or several processes were started.
    """
    if launched("WORLD_SIZE", 1) > 1:
        raise KpnError("--crop works in one process; start kpn without torchrun")
    with Decoders(READERS) as decoder:
        planned = options_of_plan(options)
        find = partial(make_plan, paths, planned, how, on_file=view.scanning, failures=failures)
        plan = plan_with(decoder, find, use_cache=use_cache)
        view.begin(plan, plan.jobs)
        summary = Summary(failures=list(plan.failures), left_out=list(plan.left_out))
        engine = None
        for job in plan.jobs:
            engine = engine or Engine(replace(options, strength=max(comparison.strengths)))
            work = partial(
                compare,
                job.files,
                options_of(job, options),
                comparison,
                engine,
                read=decoder.planes,
                read_notes=decoder.camera_notes,
                on_stage=partial(view.stage, job),
            )
            outcome = outcome_of(job, result_or_error(work))
            view.done(outcome)
            summary.add(outcome)
    return summary
