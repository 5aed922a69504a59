"""Settings from environment variables and a configuration file, by click's own means.

The command line comes first, then the environment (`auto_envvar_prefix`), then the file
(`default_map`), then the default. Values of the file are read as if they stood on the command line.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from ..errors import read_error

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Environment variables begin with this.
PREFIX = "KPN"
#: Name of the file in the user's folder, and the word that switches it off.
_FILE, _NO_FILE = "config.toml", "none"
#: Largest file that is read, bytes.
_MAX_BYTES = 1 << 20
#: Where a context keeps the file that was read.
_READ = "kpn_cli.config"

#: Sources of values, the weakest first.
_SOURCES = (
    ParameterSource.DEFAULT,
    ParameterSource.DEFAULT_MAP,
    ParameterSource.ENVIRONMENT,
    ParameterSource.COMMANDLINE,
)
#: Options that no file can set.
_NOT_IN_FILE = {"config", "help"}


def default_file() -> Path | None:
    """Return the path of the user's configuration file, which need not exist; None without a home.

    Users have no home under a number without an account, as in a container.
    """
    from platformdirs import user_config_path

    with suppress(RuntimeError):
        return user_config_path("kpn", appauthor=False, roaming=True) / _FILE
    return None


def add_settings(commands: Iterable[click.Command]) -> None:
    """Give commands the option `--config`, and variables with the names of their options."""
    for command in commands:
        for option in _options(command).values():
            variable = _variable(command, option)
            if variable != f"{PREFIX}_{command.name}_{option.name}".upper():
                option.envvar = variable
        command.params.append(_config_option())


def _config_option() -> click.Option:
    return click.Option(
        ["--config"],
        metavar="FILE",
        envvar=f"{PREFIX}_CONFIG",
        is_eager=True,  # before the options that it has values for
        expose_value=False,
        callback=_read_config,
        help="TOML file with defaults of options; none for no file. Default: "
        f"{_FILE} in kpn's folder of your settings, if it exists.",
    )


def _options(command: click.Command) -> dict[str, click.Option]:
    """Return the options of a command by their long names without dashes."""
    return {
        max(option.opts, key=len).lstrip("-"): option
        for option in command.params
        if isinstance(option, click.Option)
    }


def _variable(command: click.Command, option: click.Parameter) -> str:
    """Return the environment variable of an option."""
    if option.envvar is not None:
        return str(option.envvar)
    name = max(option.opts, key=len).lstrip("-").replace("-", "_")
    return f"{PREFIX}_{command.name}_{name}".upper()


# --- the file -------------------------------------------------------------------------


def _read_config(context: click.Context, option: click.Parameter, name: str | None) -> None:
    if context.resilient_parsing:  # completion must not fail
        return
    _check_variables(context)
    if name == _NO_FILE:
        return
    path = Path(os.path.expanduser(name)) if name else default_file()
    if path is not None and (name or os.path.isfile(path)):
        context.meta[_READ] = path
        context.default_map = _defaults(context, path, _parse(path))


def _parse(path: Path) -> dict[str, Any]:
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            raise read_error(path, OSError(), "choose another --config", otherwise="not a file")
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES >> 20} MB")
        document: dict[str, Any] = tomllib.loads(data.decode("utf-8-sig"))
        return document
    except OSError as error:
        raise read_error(path, error, "choose another --config") from None
    except tomllib.TOMLDecodeError as error:
        raise click.UsageError(f"{path}: is not valid TOML: {error}") from None
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{path}: cannot be used: {error}") from None


def _defaults(
    context: click.Context, path: Path, tables: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the values of the file for the command at hand, by parameter.

    Raises:
        UsageError: if the file has a table or key that does not exist, for whichever command, or
            for this one a value of the wrong kind.
    """
    group = context.find_root().command
    commands = group.commands if isinstance(group, click.Group) else {}
    for table, values in tables.items():
        if not isinstance(values, Mapping):
            raise click.UsageError(
                f"{path}: {table}: stands outside a table; write [denoise] above the defaults of "
                "kpn denoise, and so on"
            )
        command = commands.get(table)
        if command is None:
            raise click.UsageError(
                f"{path}: [{table}]: kpn has no such command{_similar(table, commands)}"
            )
        known = set(_options(command)) - _NOT_IN_FILE
        for key in values:
            if key.replace("_", "-") not in known:
                raise click.UsageError(
                    f"{path}: {key} in [{table}]: kpn {table} has no such option"
                    f"{_similar(key, known)}"
                )
    options = _options(context.command)
    defaults = {}
    for key, value in tables.get(context.info_name or "", {}).items():
        option = options[key.replace("_", "-")]
        try:
            defaults[str(option.name)] = _as_text(option, value)
        except ValueError as error:
            raise click.UsageError(f"{path}: {key} in [{context.info_name}]: {error}") from None
    return defaults


def _similar(name: str, known: Iterable[str]) -> str:
    import difflib

    close = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {close[0]}?" if close else ""


def _as_text(option: click.Option, value: object) -> Any:
    """Return a value as it would stand on the command line; a flag's as True or False.

    Raises:
        ValueError: if it cannot stand there; says what can.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise ValueError("is a switch; give true or false")
        return value
    if isinstance(value, list):
        texts = [_scalar(each) for each in value]
        return texts if option.multiple else ",".join(texts)
    return [_scalar(value)] if option.multiple else _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ValueError("is no such value; give text in quotes or a number")
    if isinstance(value, str) and value.startswith("~/"):  # no shell does it here
        return os.path.expanduser(value)
    return str(value)


# --- the environment ------------------------------------------------------------------


def _check_variables(context: click.Context) -> None:
    """Refuse variables of this command that belong to no option."""
    command = context.command
    start = f"{PREFIX}_{command.name}_".upper()
    known = {_variable(command, option) for option in _options(command).values()}
    known |= {f"{start}{option.name}".upper() for option in _options(command).values()}
    known.add(f"{start}HELP")
    for variable in os.environ:
        if variable.startswith(start) and variable not in known:
            raise click.UsageError(
                f"{variable}: kpn {command.name} has no such option{_similar(variable, known)}"
            )


# --- what came from where -------------------------------------------------------------


def origin(context: click.Context, option: click.Parameter) -> str:
    """Return the variable or file that an option's value is from; "" for any other source."""
    source = context.get_parameter_source(str(option.name))
    if source is ParameterSource.ENVIRONMENT:
        return _variable(context.command, option)
    if source is ParameterSource.DEFAULT_MAP:
        return str(context.meta.get(_READ, ""))
    return ""


def keep_stronger(context: click.Context, first: str, second: str) -> str:
    """Return the name of the one of two options that holds, where only one of them can.

    The command line comes before the environment, and the environment before the file. The other
    option is then not set, for the JSON and the log too.

    Args:
        context: of the command.
        first: name of a switch, or of an option that is None by default.
        second: name of another one.

    Returns:
        "" if neither is stronger, and both keep their values.
    """
    ranks = {}
    for name in (first, second):
        source = context.get_parameter_source(name)
        ranks[name] = _SOURCES.index(source) if source in _SOURCES else 0
    if ranks[first] == ranks[second]:
        return ""
    weaker, stronger = sorted(ranks, key=lambda name: ranks[name])
    context.set_parameter_source(weaker, ParameterSource.DEFAULT)
    if weaker in context.params:
        context.params[weaker] = False if isinstance(context.params[weaker], bool) else None
    return stronger


def show_origin(error: click.BadParameter) -> None:
    """Let the message about a wrong value name the variable, or the file and its key."""
    if error.ctx is None or error.param is None:
        return
    where = origin(error.ctx, error.param)
    if error.ctx.get_parameter_source(str(error.param.name)) is ParameterSource.DEFAULT_MAP:
        key = max(error.param.opts, key=len).lstrip("-")
        where = f"{key} in [{error.ctx.info_name}] of {where}"
    if where:
        error.param_hint = where


def settings(context: click.Context) -> dict[str, tuple[Any, str]]:
    """Return the values of all options by their long names, and where each is from.

    A variable, a file, "command line", or "" for the default.
    """
    found = {}
    for name, option in _options(context.command).items():
        if option.name in context.params:
            source = context.get_parameter_source(option.name)
            typed = "command line" if source is ParameterSource.COMMANDLINE else ""
            found[name] = context.params[option.name], origin(context, option) or typed
    return found


def settings_json(context: click.Context) -> dict[str, dict[str, Any]]:
    """Return the JSON of the settings from environment and file: their values and origins."""
    return {
        name: {"value": _json(value), "from": where}
        for name, (value, where) in settings(context).items()
        if where not in ("", "command line")
    }


def _json(value: object) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return [_json(each) for each in value] if isinstance(value, (list, tuple)) else str(value)
