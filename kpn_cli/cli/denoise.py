"""`kpn denoise`: group raw files into bursts and denoise each into one clean photo."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..choices import (
    COMPRESSIONS,
    DEFAULT_FORMATS,
    DEFAULT_GAP,
    DEFAULT_NAME,
    FORMAT_ALIASES,
    FORMATS,
    formats_of,
)
from ..errors import KpnError
from . import console, documents, inputs, journal, plan_view, settings
from .batch_view import BatchView
from .cluster import DASK, cluster_at
from .comparison import (
    CROP,
    GRAINS,
    JPEG_QUALITY_OPTION,
    JPEG_SIZE_OPTION,
    STRENGTHS,
    check_one_value,
    make_comparison,
)
from .options import (
    DEFECTS_OPTION,
    DEVICE,
    EXPOSURES_OPTION,
    JSON,
    LOG,
    NOISE,
    PATHS,
    PRECISION,
    QUIET,
    REFERENCE,
    THREADS,
    TILE,
    VERBOSE,
    WEIGHTS,
    Choice,
    FloatRange,
    IntRange,
)
from .startup import import_torch_meanwhile
from .values import FilePath

if TYPE_CHECKING:
    from ..batch.plan import GroupingOptions, Plan
    from ..batch.read_ahead import Summary
    from ..image.noise_model import NoiseModel
    from ..pipeline.comparison import Comparison
    from ..pipeline.options import Options
    from ..pipeline.result import Failure
    from ..system.cluster import Cluster


def _parse_formats(context: click.Context, option: click.Parameter, text: str) -> tuple[str, ...]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    formats = formats_of(names)
    known = ", ".join((*FORMATS, *FORMAT_ALIASES))
    for name in formats:
        if name not in FORMATS:
            raise click.BadParameter(f"unknown format {name!r}; choose among {known}")
    if not formats:
        raise click.BadParameter(f"no format is named; choose among {known}")
    return formats


def _parse_name(context: click.Context, option: click.Parameter, text: str) -> str:
    if text == DEFAULT_NAME or context.resilient_parsing:
        return text
    from ..pipeline.names import check_ending, check_template

    try:
        return check_ending(check_template(text))
    except KpnError as error:
        raise click.BadParameter(str(error)) from None


#: Where the context keeps whether a JSON document was begun.
_PRINTED = "kpn_cli.printed"

#: What scripts see; the guide has it as a table.
_EXIT_CODES = (
    "Exit code: 0 if every burst is done, was finished before, or is left out on purpose (a "
    "bracket, a burst below --min-frames); 1 if a burst or file failed; 2 for wrong usage; 130 "
    "after Ctrl-C."
)


@click.command(epilog=_EXIT_CODES)
@PATHS
@click.option(
    "-o",
    "--output",
    type=FilePath(file_okay=False, path_type=Path),
    default="denoised",
    show_default=True,
    help="Folder for the results.",
)
@click.option(
    "--name",
    metavar="TEMPLATE",
    default=DEFAULT_NAME,
    show_default=True,
    callback=_parse_name,
    help="Names of the results, with fields in braces: {reference}, {first} and {last} frame, "
    "number of {frames}, {date} and {time} (also {date:%Y%m%d}), {camera}, {iso}, {folder}. The "
    "format adds .dng, _linear.tif, _srgb.tif or .jpg.",
)
@click.option(
    "--format",
    "formats",
    default=",".join(DEFAULT_FORMATS),
    show_default=True,
    callback=_parse_formats,
    help=f"Output formats, comma-separated, from: {', '.join(FORMATS)}. linear and srgb are 16-bit "
    "TIFFs; tif or tiff stands for both, jpg for jpeg.",
)
@REFERENCE
@EXPOSURES_OPTION
@click.option(
    "--headroom",
    is_flag=True,
    help="Keep highlights that the reference clips and a darker frame of a bracket does not: the "
    "white level of the DNG then makes room for them.",
)
@STRENGTHS
@GRAINS
@CROP
@NOISE
@DEFECTS_OPTION
@DEVICE
@PRECISION
@TILE
@THREADS
@DASK
@WEIGHTS
@click.option(
    "--gap",
    type=FloatRange(0),
    default=DEFAULT_GAP,
    show_default=True,
    help="Longest pause within a burst, in seconds, from the end of one exposure to the start of "
    "the next.",
)
@click.option(
    "--burst-size",
    type=IntRange(1),
    metavar="N",
    help="Group every N files into a burst, in capture order, regardless of gaps. Use it if all "
    "your bursts have N frames.",
)
@click.option(
    "--no-group",
    is_flag=True,
    help="Do not look for bursts: the files you name are one burst, and so are the files of each "
    "folder. Use it if your files are sorted already.",
)
@click.option(
    "--min-frames",
    type=IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Leave bursts of fewer than N files out, such as the single shots on a card. This is no "
    "failure.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="List the bursts and their output folders without denoising them, and estimate the time "
    "and the disk space that they will take.",
)
@click.option(
    "--no-cache",
    is_flag=True,
    help="Read all files for the plan again, and keep nothing of them. Without it, kpn remembers "
    "when and how each file was taken, in your folder for caches.",
)
@click.option(
    "--compression",
    type=Choice(COMPRESSIONS),
    metavar="|".join(COMPRESSIONS),
    default=COMPRESSIONS[0],
    show_default=True,
    help="Compression of the DNG: lossless JPEG, or none for programs that cannot read it.",
)
@JPEG_QUALITY_OPTION
@JPEG_SIZE_OPTION
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace existing outputs. Without it, finished bursts are skipped, and outputs of other "
    "frames or options are an error.",
)
@click.option(
    "--report/--no-report",
    help="Also write report.html, a page that compares before and after at 100 % and lists the "
    "frames used, the noise and the timings, and report.jsonl, the same facts for programs.",
)
@QUIET
@VERBOSE
@LOG
@JSON
def denoise(
    *,
    paths: tuple[str, ...],
    output: Path,
    name: str,
    formats: tuple[str, ...],
    reference: str,
    exposures: str,
    headroom: bool,
    strength: tuple[float, ...],
    grain: tuple[float, ...],
    crop: tuple[int, int, int, int] | None,
    noise: NoiseModel | Path | None,
    defects: str,
    device: str,
    precision: str,
    tile: int,
    threads: int | None,
    dask: str | None,
    weights: Path | None,
    gap: float,
    burst_size: int | None,
    no_group: bool,
    min_frames: int,
    dry_run: bool,
    no_cache: bool,
    compression: str,
    jpeg_quality: int,
    jpeg_size: int | None,
    overwrite: bool,
    report: bool,
    log: Path | None,
    as_json: bool,
) -> None:
    """Denoise bursts of raw photos, one clean photo per burst.

    PATHS are raw files, or folders that contain them at any depth; patterns in
    quotes ('DCIM/**/*.dng'); @list.txt, a list of names, one a line; or - for a
    list on standard input. Files that were taken in quick succession form a
    burst if they have the same camera, size and exposure, but for small changes
    of automatic exposure. A burst has any number of frames; a single frame is
    denoised spatially.

    Finished bursts are skipped, so you can continue an interrupted job with the
    same command. --dask shares the bursts among the workers of a cluster.
    """
    context = click.get_current_context()
    if no_group and burst_size is not None:
        if not settings.keep_stronger(context, "no_group", "burst_size"):
            raise click.UsageError(
                "--burst-size and --no-group exclude each other; give one of them"
            )
        no_group, burst_size = context.params["no_group"], context.params["burst_size"]
    if settings.keep_stronger(context, "quiet", "verbose") == "verbose":
        console.set_quiet(False)  # -v of the command line, although a setting says quiet
    if crop is not None and dask is not None:
        raise click.UsageError("--crop works in one process; leave out --dask")
    if crop is None:
        check_one_value("--strength", strength)
        check_one_value("--grain", grain)
    console.mute_other_ranks()
    try:
        context.with_resource(journal.log_to(log))
        journal.tell_settings(context)
        if threads is not None and dask is None:  # with it, for each worker
            from ..system.threads import limit_threads

            limit_threads(threads)  # before the libraries are loaded, which look for it only then
        import_torch_meanwhile()
        from ..batch.plan import GroupingOptions
        from ..noise import calibration
        from ..pipeline.options import Options

        options = Options(
            output,
            name=name,
            formats=formats,
            reference=reference,
            exposures=exposures,
            headroom=headroom,
            strength=max(strength),
            grain=max(grain),
            noise=calibration.load_calibration(noise) if isinstance(noise, Path) else noise,
            defects=defects,
            device=device,
            precision=precision,
            tile=tile,
            weights=weights,
            overwrite=overwrite,
            compression=compression,
            jpeg_quality=jpeg_quality,
            jpeg_size=jpeg_size,
            report=report,
        )
        grouping = GroupingOptions(gap, burst_size, no_group, min_frames)
        given = inputs.raws(paths)
        given.tell()
        comparison = None
        if crop is not None:
            comparison = make_comparison(crop, strength, grain, formats, jpeg_quality)
        failures: Sequence[Failure]
        if dry_run:
            failures = _plan(
                context, given, options, grouping, comparison, as_json, use_cache=not no_cache
            )
        elif comparison is not None:
            failures = _compare(
                context, given, options, grouping, comparison, as_json, use_cache=not no_cache
            )
        else:
            with cluster_at(dask, threads, device) as cluster:
                failures = _denoise(
                    context,
                    given,
                    options,
                    grouping,
                    as_json,
                    use_cache=not no_cache,
                    cluster=cluster,
                )
    except KpnError as error:
        console.log(logging.ERROR, str(error))
        if as_json:
            failed = {"files": list(paths), "error": str(error)}
            _print_json(context, {"bursts": [], "failed": [failed]})
        raise
    except KeyboardInterrupt:
        if as_json:
            _print_json(context, {"bursts": [], "failed": [], "interrupted": True})
        console.note("interrupted; run the same command again to continue")
        sys.exit(console.INTERRUPTED)
    except click.ClickException as error:
        console.log(logging.ERROR, error.format_message())
        raise
    except Exception as error:
        console.LOG.exception("kpn has failed; please report this")
        from ..system.faults import bug

        if as_json:
            failed = {"files": list(paths), "error": str(bug(error))}
            _print_json(context, {"bursts": [], "failed": [failed]})
        raise
    if failures:
        sys.exit(1)


def _plan(
    context: click.Context,
    given: inputs.Inputs,
    options: Options,
    grouping: GroupingOptions,
    comparison: Comparison | None,
    as_json: bool,
    *,
    use_cache: bool,
) -> Sequence[Failure]:
    """Show the bursts without denoising them; return what failed."""
    from ..batch import run

    planned = options
    if comparison is not None:
        from ..batch.comparisons import options_of_plan

        planned = options_of_plan(options)
    with console.scan_bar() as on_file:
        plan = run.plan_batch(
            given.paths, planned, grouping, on_file, failures=given.failures, use_cache=use_cache
        )
    _show_plan(context, plan, options if comparison is None else None, as_json)
    return plan.failures


def _compare(
    context: click.Context,
    given: inputs.Inputs,
    options: Options,
    grouping: GroupingOptions,
    comparison: Comparison,
    as_json: bool,
    *,
    use_cache: bool,
) -> Sequence[Failure]:
    """Write a picture of a part of each burst; return what failed."""
    from ..batch.comparisons import compare_all

    with _tell_if_interrupted(context, BatchView(None, quiet=as_json), as_json) as view:
        summary = compare_all(
            given.paths,
            options,
            grouping,
            comparison,
            view,
            failures=given.failures,
            use_cache=use_cache,
        )
    _show_summary(context, summary, as_json)
    return summary.failures


def _denoise(
    context: click.Context,
    given: inputs.Inputs,
    options: Options,
    grouping: GroupingOptions,
    as_json: bool,
    *,
    use_cache: bool,
    cluster: Cluster | None,
) -> Sequence[Failure]:
    """Denoise each burst; return what failed."""
    from ..batch import run

    shown = BatchView(options, quiet=as_json)
    with _tell_if_interrupted(context, shown, as_json) as view:
        summary = run.run_batch(
            given.paths,
            options,
            grouping,
            view,
            failures=given.failures,
            use_cache=use_cache,
            cluster=cluster,
        )
    if summary is None:  # under torchrun, the first process shows the results of all
        return ()
    _show_summary(context, summary, as_json)
    return summary.failures


@contextmanager
def _tell_if_interrupted(
    context: click.Context, view: BatchView, as_json: bool
) -> Iterator[BatchView]:
    """Show progress; if the run ends early, print the document of what is done if one is wanted."""
    try:
        with view:
            yield view
    except KeyboardInterrupt:
        if as_json:
            _print_json(context, documents.summary_json(view.summary) | {"interrupted": True})
        raise
    except KpnError as error:
        if as_json and view.summary.results:
            from ..batch.result_json import failure_json

            failed = [failure_json(failure) for failure in view.summary.failures]
            failed.append({"files": list(context.params["paths"]), "error": str(error)})
            _print_json(context, documents.summary_json(view.summary) | {"failed": failed})
        raise


def _print_json(context: click.Context, document: dict[str, Any]) -> None:
    """Print the document of the command, unless one was begun: Ctrl-C may come meanwhile."""
    if not context.meta.get(_PRINTED):
        context.meta[_PRINTED] = True
        console.print_json_object(document | {"settings": settings.settings_json(context)})


def _show_plan(context: click.Context, plan: Plan, options: Options | None, as_json: bool) -> None:
    """Show a plan, with an estimate for whole pictures made with these options; None for parts."""
    from ..batch.outlook import look_ahead
    from ..batch.plan import UNSEEN

    outlook = None
    if options is not None:
        with console.bar("estimating the time", None):
            outlook = look_ahead(plan.jobs, options)
    if as_json:
        _print_json(context, documents.plan_json(plan, outlook, UNSEEN))
    else:
        plan_view.show_plan(plan, outlook, UNSEEN)
    journal.tell_plan(plan)


def _show_summary(context: click.Context, summary: Summary, as_json: bool) -> None:
    if as_json:
        _print_json(context, documents.summary_json(summary))
    elif summary.report is not None:
        console.print_path(summary.report)
    console.show_summary(summary)
