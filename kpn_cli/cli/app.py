"""The `kpn` program: the group of its commands, and the one place where errors are caught.

Commands import the library inside their bodies, so that `kpn --help` imports no torch.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from ..errors import KpnError
from . import console, settings, startup, streams
from .calibrate import calibrate
from .demo import demo
from .denoise import denoise
from .evaluate import evaluate
from .info import info
from .inspect import inspect
from .synth import synth
from .train import train
from .version import version_option


class _Group(click.Group):
    """Shows errors as one line on stderr and exits with code 1; after Ctrl-C with 130.

    A `KpnError` is the user's to mend; any other exception is a fault of kpn, and the line says so.
    """

    def main(self, *arguments: Any, **options: Any) -> Any:
        streams.begin()
        return super().main(*arguments, **options)

    def invoke(self, context: click.Context) -> Any:
        startup.allow_fallback()
        try:
            result = self._invoked(context)
        except click.BadParameter as error:
            settings.show_origin(error)
            raise
        except KpnError as error:
            console.fail(str(error))
        except KeyboardInterrupt:
            console.note("interrupted")
            sys.exit(console.INTERRUPTED)
        except (click.ClickException, click.Abort, click.exceptions.Exit, BrokenPipeError):
            raise
        except MemoryError:
            console.fail("not enough memory; close other programs, or give smaller files")
        except Exception as error:
            if sys.flags.dev_mode:  # PYTHONDEVMODE=1: a developer wants to see the traceback
                raise
            from ..system.faults import bug

            console.fail(str(bug(error)))
        if streams.stdout_error():
            context.exit(1)
        return result

    def _invoked(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except FileNotFoundError:
            if not _is_current_folder_gone():
                raise
            raise KpnError("the current folder is gone; change to another one") from None


def _is_current_folder_gone() -> bool:
    """Whether relative names lead nowhere, as in a card's folder after the card was removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


@click.group(
    cls=_Group,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": settings.PREFIX,
    },
)
@version_option
def main() -> None:
    """Turn a burst of noisy raw photos into one clean raw photo."""


for _command in (denoise, calibrate, info, demo, inspect, synth, train, evaluate):
    main.add_command(_command)
settings.add_settings(main.commands.values())
