"""A report of many bursts is an index, pages of bounded size, and a list for programs."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from report_pages import burst_result, publish_report, small_pictures

from kpn_cli.batch import report_index, report_pages
from kpn_cli.batch.result_json import burst_json
from kpn_cli.errors import KpnError
from kpn_cli.pipeline.result import Failure, LeftOut

VOID = {"meta", "link", "img", "input", "br", "hr"}
FOREIGN = {"rect", "svg"}


class Page(HTMLParser):
    """A page's elements; fails where they are not nested."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.path, self.open, self.text = path, [], ""
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self.open == [], path

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag):
        optional = {"li", "p", "option"}
        while self.open and self.open[-1] != tag and self.open[-1] in optional:
            self.open.pop()
        assert self.open and self.open.pop() == tag, (self.path, tag)

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def file(self, url: str) -> Path:
        target = unquote_to_bytes(url.partition("#")[0]).decode("utf-8", "surrogateescape")
        return self.path.parent / target if target else self.path


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(report_pages, "BURSTS_OF_A_PAGE", 2)


def pages_of(folder: Path) -> list[Page]:
    return [Page(path) for path in sorted((folder / "report_pages").glob("*.html"))]


def check_links(page: Page) -> None:
    """All that a page leads to is there."""
    for target in [a["href"] for a in page.all("a")] + [i["src"] for i in page.all("img")]:
        if target.startswith("data:"):
            continue
        file = page.file(target)
        assert file.is_file(), (page.path, target)
        if "#" in target:
            ids = [each.get("id") for _, each in Page(file).elements]
            assert target.partition("#")[2] in ids


def test_every_burst_is_on_one_page_that_the_index_leads_to(tmp_path):
    results = [burst_result(tmp_path, number, name="<i>&") for number in range(5)]
    index = Page(publish_report(tmp_path, results))
    pages = pages_of(tmp_path)
    assert [len(page.all("article")) for page in pages] == [2, 2, 1]
    for page in (index, *pages):
        check_links(page)
    tiles = [attributes for attributes in index.all("li") if "data-kinds" in attributes]
    assert len(tiles) == 5 and index.all("article") == []
    thumbnails = index.all("img")
    assert len(thumbnails) == 5 and all(image["loading"] == "lazy" for image in thumbnails)
    for number, result in enumerate(results, 1):
        assert result.reference.name in index.text
        page = pages[(number - 1) // 2]
        assert {"id": f"burst-{number}"}.items() <= page.all("article")[(number - 1) % 2].items()
        assert result.reference.name in page.text
        links = [page.file(a["href"]).resolve() for a in page.all("a")]
        assert result.outputs["dng"].resolve() in links


def test_pages_hold_no_pictures_and_load_nothing_from_elsewhere(tmp_path):
    large = small_pictures(side=512)
    publish_report(tmp_path, [burst_result(tmp_path, number) for number in range(3)], large)
    for page in pages_of(tmp_path):
        assert "base64" not in page.path.read_text("utf-8").partition("</head>")[2]
        policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
        assert "img-src data: 'self' file:;" in policy and "http" not in policy
        images = page.all("img")
        assert len(images) == 5 * len(page.all("article"))
        assert all(image["loading"] == "lazy" for image in images)
        written = {page.file(image["src"]).read_bytes() for image in images}
        assert {large.overview, *(crop.after for crop in large.crops)} <= written


def test_failures_come_first_and_bursts_can_be_chosen_by_their_remarks(tmp_path):
    results = [
        burst_result(tmp_path, number, warning=f"the noise of IMG_{number}.dng is odd" * (n > 1))
        for n, number in enumerate((7, 8, 9, 10))
    ]
    results[0] = replace(results[0], dropped={Path("x.dng"): "damaged"})
    failures = [Failure((Path("a.dng"),), "a.dng: is no raw")]
    left_out = [LeftOut((Path("b.dng"),), "1 frame", 2)]
    index = Page(publish_report(tmp_path, results, failures=failures, left_out=left_out))
    source = index.path.read_text("utf-8")
    assert source.index("is no raw") < source.index("Left out") < source.index("IMG_00007")
    options = {o["value"]: None for o in index.all("option")}
    shown = index.text.split("Show ")[1]
    assert "all 4 bursts" in shown
    assert "2 \N{MULTIPLICATION SIGN} Warning: the noise of \N{HORIZONTAL ELLIPSIS} is odd" in shown
    assert shown.index("Warning") < shown.index("Frames were dropped")
    kinds = [a["data-kinds"].split() for a in index.all("li") if "data-kinds" in a]
    assert [bool(each) for each in kinds] == [True, False, True, True]
    assert kinds[2] == kinds[3] != kinds[0] and {*kinds[0], *kinds[2]} <= options.keys()


def test_of_very_many_bursts_the_index_lists_those_with_warnings(tmp_path, monkeypatch):
    monkeypatch.setattr(report_index, "MOST", 3)
    results = [
        burst_result(tmp_path, number, warning="Look!" * (number in (2, 5))) for number in range(6)
    ]
    failures = [Failure((Path(f"{n}.dng"),), f"{n}.dng: is no raw") for n in range(5)]
    index = Page(publish_report(tmp_path, results, failures=failures))
    assert len([a for a in index.all("li") if "data-kinds" in a]) == 2
    assert "IMG_00002" in index.text and "IMG_00005" in index.text
    assert index.text.count("is no raw") == 3 and "and 2 more" in index.text
    assert sum(len(page.all("article")) for page in pages_of(tmp_path)) == 6


# --- earlier runs -----------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "report_pages").rglob("*"))
        if path.is_file()
    }


def test_a_second_run_keeps_the_sections_and_their_pictures(tmp_path):
    results = [burst_result(tmp_path, number) for number in range(5)]
    publish_report(tmp_path, results)
    before = contents(tmp_path)
    publish_report(tmp_path, [replace(result, skipped=True) for result in results])
    after = contents(tmp_path)
    assert {n for n in before if n.endswith(".jpg")} == {n for n in after if n.endswith(".jpg")}
    assert all(after[name] == data for name, data in before.items() if name.endswith(".jpg"))
    for page in pages_of(tmp_path):
        assert page.text.count("Outputs existed already") == len(page.all("article"))
        check_links(page)
    assert not list(tmp_path.glob(".kpn-*"))


def test_a_report_grows_to_several_pages_and_shrinks_to_one(tmp_path):
    results = [burst_result(tmp_path, number) for number in range(3)]
    one = publish_report(tmp_path, results[:2]).read_text("utf-8")
    assert not (tmp_path / "report_pages").exists()
    publish_report(tmp_path, results[2:])  # keeps those of the first run
    assert [len(page.all("article")) for page in pages_of(tmp_path)] == [2, 1]
    results[2].outputs["dng"].unlink()
    again = publish_report(tmp_path, [replace(result, skipped=True) for result in results[:2]])
    pictures = Page(again).all("img")
    assert not (tmp_path / "report_pages").exists()
    assert len(pictures) == 10
    for source in (image["src"] for image in pictures):
        assert source.startswith("data:image/jpeg;base64,") and source in one
    check_links(Page(again))


def test_a_folder_of_another_program_is_not_replaced(tmp_path):
    (tmp_path / "report_pages").mkdir()
    (tmp_path / "report_pages" / "mine.html").write_text("my pages")
    with pytest.raises(KpnError, match="report_pages: already exists and is no report of kpn"):
        publish_report(tmp_path, [burst_result(tmp_path, number) for number in range(3)])
    assert (tmp_path / "report_pages" / "mine.html").read_text() == "my pages"


def test_an_error_leaves_the_old_pages(tmp_path, monkeypatch):
    results = [burst_result(tmp_path, number) for number in range(3)]
    publish_report(tmp_path, results)
    before = contents(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_index, "page_links", full)
    with pytest.raises(KpnError, match="No space left"):
        publish_report(tmp_path, results)
    assert contents(tmp_path) == before
    assert not list(tmp_path.glob(".kpn-*"))


def test_pages_that_a_killed_program_left_are_removed_after_a_day(tmp_path):
    for name, age in (("0123456789ab", 2e5), ("0123456789ac", 0)):
        (tmp_path / f".kpn-{name}" / "pictures").mkdir(parents=True)
        os.utime(tmp_path / f".kpn-{name}", (time.time() - age,) * 2)
    publish_report(tmp_path, [burst_result(tmp_path, number) for number in range(3)])
    assert [path.name for path in tmp_path.glob(".kpn-*")] == [".kpn-0123456789ac"]


# --- for programs -----------------------------------------------------------


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def test_the_list_has_a_line_for_each_burst_with_the_keys_of_json(tmp_path):
    results = [burst_result(tmp_path, number) for number in range(3)]
    failures = [Failure((Path("a\udcff.dng"),), "no raw")]
    left_out = [LeftOut((Path("b.dng"),), "1 frame", 2)]
    publish_report(tmp_path, results, failures=failures, left_out=left_out)
    expected = [json.loads(json.dumps(burst_json(result))) for result in results]
    assert lines(tmp_path)[:3] == expected
    assert lines(tmp_path)[3:] == [
        {"files": ["a\udcff.dng"], "error": "no raw"},
        {"files": ["b.dng"], "reason": "1 frame"},
    ]


def test_the_list_keeps_what_is_known_of_bursts_of_earlier_runs(tmp_path):
    results = [burst_result(tmp_path, number) for number in range(3)]
    publish_report(tmp_path, results, failures=[Failure((Path("a.dng"),), "no raw")])
    first = lines(tmp_path)
    publish_report(tmp_path, [replace(results[1], skipped=True, noise=None)])
    assert lines(tmp_path) == [first[1], first[0], first[2]]
    results[0].outputs["dng"].unlink()
    publish_report(tmp_path, results[2:])
    assert [line["reference"] for line in lines(tmp_path)] == [
        str(results[2].reference),
        str(results[1].reference),
    ]


@pytest.mark.parametrize("content", ["my notes\n", "[1]\n", '{"a": 1}\n', '{"outputs": 3}\n'])
def test_a_list_of_another_program_is_not_replaced(content, tmp_path):
    (tmp_path / "report.jsonl").write_text(content)
    with pytest.raises(KpnError, match=r"report\.jsonl: already exists and is no report of kpn"):
        publish_report(tmp_path, [burst_result(tmp_path, 1)])
    assert (tmp_path / "report.jsonl").read_text() == content
