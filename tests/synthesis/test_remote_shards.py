"""`kpn train` takes shards from a web server: each is fetched once."""

from __future__ import annotations

import http.server
import threading
from functools import partial

import cv2
import pytest
from command_line import assert_one_line, kpn
from pictures import photo

from kpn_cli.errors import KpnError
from kpn_cli.synthesis.dataset import DatasetConfig, write_dataset
from kpn_cli.synthesis.photos import find_photos
from kpn_cli.synthesis.remote_shards import expand_urls, fetch
from kpn_cli.synthesis.shards import ShardSource, find_shards
from kpn_cli.system.cache import cache_folder

pytest.importorskip("webdataset")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server of a data set of two shards: its address, folder and the paths asked for."""
    folder = tmp_path_factory.mktemp("server")
    cv2.imwrite(str(folder / "photo.png"), photo(0, 280, 300))
    write_dataset(find_photos([folder]), folder, DatasetConfig(130, 1, "shards", seed=3))
    for number, path in enumerate(sorted(folder.glob("*.tar"))):
        path.rename(folder / f"shard-{number:03d}.tar")
    (folder / "bad.tar").write_text("<html>not found</html>")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *arguments):
            pass

    handler = partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{web.server_port}", folder, asked
        web.shutdown()


def test_shards_are_fetched_once_and_are_those_of_the_folder(server):
    address, folder, asked = server
    urls = expand_urls([f"{address}/shard-{{000..001}}.tar"])
    assert urls == [f"{address}/shard-000.tar", f"{address}/shard-001.tar"]
    paths = fetch(urls)
    assert fetch(urls) == paths
    assert asked == ["/shard-000.tar", "/shard-001.tar"]
    local = find_shards([folder / "shard-000.tar", folder / "shard-001.tar"])
    assert ShardSource(paths).digest == ShardSource(local).digest


def test_what_is_no_shard_is_a_line_and_leaves_nothing(server, tmp_path):
    address, _, _ = server
    for name, why in (("missing.tar", "has no such file"), ("bad.tar", "it is no tar file")):
        with pytest.raises(KpnError, match=rf"{name}: cannot be fetched \([^()]*{why}"):
            fetch([f"{address}/{name}"])
    with pytest.raises(KpnError, match="the server does not answer"):
        fetch(["http://127.0.0.1:9/x.tar"])
    assert not list((cache_folder() / "shards").rglob("*.temp*"))
    assert_one_line(kpn("train", f"{address}/photo.png", "-o", tmp_path / "run"), "not the address")
