"""Training shards on a web server: fetched once, by WebDataset, into the user's cache folder.

Training draws bursts at random, and a resumed run draws the same ones again. So it needs the files
themselves; a stream of them, WebDataset's usual way, gives the next burst only.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import KpnError, reason_of
from ..system.cache import cache_folder
from ..system.files import make_folder

_SCHEMES = ("http://", "https://")
#: What the exit codes of curl mean. https://curl.se/docs/manpage.html
_CURL = {
    6: "there is no such server",
    7: "the server does not answer",
    18: "the server broke off",
    22: "the server has no such file, or refuses it",
    28: "the server takes too long",
    60: "the server's certificate is not trusted",
}


def is_remote(text: str) -> bool:
    """Whether an argument is a URL, and no path."""
    return text.lower().startswith(_SCHEMES)


def expand_urls(patterns: Sequence[str]) -> list[str]:
    """Return the URLs that patterns such as `http://host/shard-{000..009}.tar` stand for.

    Raises:
        KpnError: if `webdataset` is not installed, or a URL is not that of a tar file.
    """
    shardlists = _webdataset("shardlists")
    urls = [url for pattern in patterns for url in shardlists.expand_urls(pattern)]
    for url in urls:
        if not url.endswith(".tar"):
            raise KpnError(f"{url}: not the address of a shard; give http://...{{000..009}}.tar")
    return urls


def fetch(urls: Sequence[str], on_shard: Callable[[], None] = lambda: None) -> list[Path]:
    """Return the files of shards, those that are not in the cache yet downloaded.

    Args:
        urls: of tar files.
        on_shard: called after each.

    Raises:
        KpnError: if one cannot be fetched, or is no tar file.
    """
    paths = []
    for url in urls:
        folder = cache_folder() / "shards" / _folder_name(url)
        make_folder(folder)
        try:
            paths.append(Path(_webdataset("cache").FileCache(str(folder)).get_file(url)))
        except FileNotFoundError as error:
            raise KpnError(f"{url}: fetching it needs the program curl ({error})") from None
        except (OSError, ValueError) as error:
            raise KpnError(
                f"{url}: cannot be fetched ({_reason(error)}); check the address, or try again: "
                "what was fetched stays"
            ) from None
        finally:
            for rest in folder.glob(f"*.temp{os.getpid()}"):  # of a download that broke off
                rest.unlink(missing_ok=True)
        on_shard()
    return paths


def _reason(error: OSError | ValueError) -> str:
    """Return why WebDataset could not fetch a file: it tells the whole command and its end."""
    code = re.search(r"\bexit (\d+)", str(error))
    if code is None:
        return reason_of(error) if isinstance(error, OSError) else "it is no tar file"
    return _CURL.get(int(code[1]), f"curl ends with code {code[1]}")


def _folder_name(url: str) -> str:
    """Return a name for the folder of a URL: files of one name may be on several servers."""
    return hashlib.sha256(url.rpartition("/")[0].encode()).hexdigest()[:16]


def _webdataset(module: str) -> Any:
    try:
        return import_module(f"webdataset.{module}")
    except ImportError:
        raise KpnError(
            "shards on a server: webdataset is not installed; pip install 'kpn[research]'"
        ) from None
