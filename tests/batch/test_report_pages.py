"""A report of many bursts is an index, pages of bounded size, and a list for programs."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest
from report_pages import burst_result, publish_report, small_pictures

from kpn_cli.batch import report, report_index, report_pages, report_store
from kpn_cli.batch.result_json import burst_json
from kpn_cli.errors import KpnError
from kpn_cli.pipeline.options import Options
from kpn_cli.pipeline.result import Failure, LeftOut
from kpn_cli.system import files as system_files

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
    assert "Listed here: 2 bursts with a warning." in index.text


def test_pages_lead_to_those_beside_them_and_say_how_many_bursts_have_warnings(tmp_path):
    results = [burst_result(tmp_path, n, warning="Look!" * (n in (2, 3))) for n in range(5)]
    index = Page(publish_report(tmp_path, results))
    assert "3\N{EN DASH}4 2 warnings" in index.text and index.text.count(" warnings") == 1
    links = [[link.get("rel", "") for link in page.all("a")][:3] for page in pages_of(tmp_path)]
    assert [[rel for rel in each if rel] for each in links] == [
        ["next"],
        ["prev", "next"],
        ["prev"],
    ]


def test_the_choice_has_remarks_as_they_are_but_shortened(tmp_path):
    results = [burst_result(tmp_path, n, notes=["A & B", "word " * 60]) for n in range(3)]
    index = Page(publish_report(tmp_path, results))
    chosen = index.text.split("Show ")[1]
    assert "Note: A & B" in chosen
    assert chosen.count("word") == 22


def test_bursts_whose_sections_are_lost_are_listed_all_the_same(tmp_path):
    results = [replace(burst_result(tmp_path, number), skipped=True) for number in range(3)]
    index = Page(publish_report(tmp_path, results))
    assert index.text.count("Section lost") == 3
    assert all("This section is lost" in page.text for page in pages_of(tmp_path))


def test_the_index_says_that_bursts_have_fewer_pictures(tmp_path, monkeypatch):
    results = [burst_result(tmp_path, number) for number in range(3)]
    assert "fewer pictures" not in Page(publish_report(tmp_path, results)).text
    monkeypatch.setattr(report, "_MAX_PAGE_BYTES", 1000)
    assert "each has fewer pictures" in Page(publish_report(tmp_path, results)).text


def test_warnings_are_the_first_choice(tmp_path):
    results = [burst_result(tmp_path, n, notes=["odd"], warning="Look!" * (n == 2)) for n in (1, 2)]
    text = Page(publish_report(tmp_path, [burst_result(tmp_path, 3), *results])).text
    assert text.index("1 \N{MULTIPLICATION SIGN} Warning: Look!") < text.index("Note: odd")


def test_only_remarks_of_listed_bursts_can_be_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(report_index, "MOST", 3)
    results = [
        burst_result(tmp_path, n, notes=["odd"], warning="Look!" * (n == 2)) for n in range(6)
    ]
    index = Page(publish_report(tmp_path, results))
    assert "1 \N{MULTIPLICATION SIGN} Note: odd" in index.text
    results[2].outputs["dng"].unlink()
    index = Page(publish_report(tmp_path, [*results[:2], *results[3:]]))
    assert "No burst has a warning, so none is listed here." in index.text
    assert not index.all("option")


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


def test_pages_that_cannot_take_the_place_of_the_old_ones_leave_them(tmp_path, monkeypatch):
    results = [burst_result(tmp_path, number) for number in range(3)]
    publish_report(tmp_path, results)
    before, rename = contents(tmp_path), system_files._rename

    def busy(source, target):
        if target.name == "report_pages":
            raise OSError(16, "Device or resource busy")
        rename(source, target)

    monkeypatch.setattr(system_files, "_rename", busy)
    with pytest.raises(KpnError, match="report_pages: cannot be written: Device or resource busy"):
        publish_report(tmp_path, results)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_pictures_that_somebody_removed_or_changed_fail_no_report(content, tmp_path):
    results = [burst_result(tmp_path, number) for number in range(3)]
    publish_report(tmp_path, results)
    for file in (tmp_path / "report_pages").rglob("*.jpg"):
        file.unlink() if content is None else file.write_bytes(content)
    again = [replace(result, skipped=True) for result in results]
    index = Page(publish_report(tmp_path, again))
    assert not index.all("img") and len(lines(tmp_path)) == 3
    results[2].outputs["dng"].unlink()
    assert len(Page(publish_report(tmp_path, again[:2])).all("article")) == 2


def test_pictures_are_copied_where_files_cannot_be_linked(tmp_path, monkeypatch):
    results = [burst_result(tmp_path, number) for number in range(3)]
    publish_report(tmp_path, results)
    before = contents(tmp_path)
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(1, "Not permitted")))
    publish_report(tmp_path, [replace(result, skipped=True) for result in results])
    assert before.keys() == contents(tmp_path).keys()


def test_a_link_to_the_pages_of_another_report_is_not_replaced(tmp_path):
    publish_report(tmp_path / "a", [burst_result(tmp_path / "a", number) for number in range(3)])
    before = contents(tmp_path / "a")
    results = [burst_result(tmp_path / "b", number) for number in range(3)]
    (tmp_path / "b" / "report_pages").symlink_to(tmp_path / "a" / "report_pages")
    with pytest.raises(KpnError, match="report_pages: already exists and is no report of kpn"):
        publish_report(tmp_path / "b", results)
    assert contents(tmp_path / "a") == before


def test_pages_that_a_killed_program_left_are_removed_after_a_day(tmp_path):
    for name, age in (("0123456789ab", 2e5), ("0123456789ac", 0)):
        (tmp_path / f".kpn-{name}" / "pictures").mkdir(parents=True)
        os.utime(tmp_path / f".kpn-{name}", (time.time() - age,) * 2)
    publish_report(tmp_path, [burst_result(tmp_path, number) for number in range(3)])
    assert [path.name for path in tmp_path.glob(".kpn-*")] == [".kpn-0123456789ac"]


def test_pages_of_a_program_that_was_killed_while_it_replaced_them_are_kept(tmp_path):
    results = [burst_result(tmp_path, number) for number in range(3)]
    publish_report(tmp_path, results)
    before = contents(tmp_path)
    (tmp_path / "report_pages").rename(tmp_path / ".kpn-report_pages")
    publish_report(tmp_path, [replace(result, skipped=True) for result in results])
    assert before.keys() == contents(tmp_path).keys()
    assert "Section lost" not in (tmp_path / "report.html").read_text("utf-8")
    assert not list(tmp_path.glob(".kpn-*"))


def test_runs_that_end_together_write_one_report_of_all(tmp_path):
    runs = [[burst_result(tmp_path, 10 * run + n) for n in range(3)] for run in range(6)]
    with ThreadPoolExecutor(len(runs)) as threads:
        list(threads.map(partial(publish_report, tmp_path), runs))
    assert sum(len(page.all("article")) for page in pages_of(tmp_path)) == 18
    assert len(lines(tmp_path)) == 18
    for page in pages_of(tmp_path):
        check_links(page)


def test_a_page_that_changed_meanwhile_is_not_taken_for_another(tmp_path):
    burst = burst_result(tmp_path, 1)
    page = publish_report(tmp_path, [burst])
    ((key, section),) = report_store.existing_sections(tmp_path).items()
    page.write_bytes(b" " + page.read_bytes())
    with pytest.raises(KpnError, match=r"report\.html: has changed while in use; start again"):
        report_store.whole(report_store.Entry(key, True, section))


def test_a_folder_that_vanished_is_an_error_in_a_line(tmp_path):
    folder = tmp_path / "out"
    burst = burst_result(folder, 1)
    options = Options(folder, report=True)
    with report.collect_sections(options, 1) as sections:
        folder.rename(tmp_path / "elsewhere")
        with pytest.raises(KpnError, match="out: cannot be written: No such file or directory"):
            report.publish(options, [burst], [], [sections.collected], planned=1, seconds=1.0)


def test_a_section_of_the_old_report_is_preferred_to_one_from_the_outputs(tmp_path):
    burst = burst_result(tmp_path, 1)
    publish_report(tmp_path, [burst])
    again = replace(burst, skipped=True, noise=None)
    options = Options(tmp_path, report=True)
    with report.collect_sections(options, 1) as sections:
        poor = report.whole_section(again, "none", tmp_path)
        sections.store(again, poor)
        page = report.publish(options, [again], [], [sections.collected], planned=1, seconds=1.0)
    assert "variance =" in page.read_text("utf-8")


# --- for programs -----------------------------------------------------------


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]


def test_the_list_has_a_line_for_each_burst_with_the_keys_of_json(tmp_path):
    results = [burst_result(tmp_path, number) for number in range(3)]
    failures = [Failure((Path("a\udcff.dng"),), "no raw")]
    left_out = [LeftOut((Path("b.dng"),), "1 frame", 2)]
    publish_report(tmp_path, results, failures=failures, left_out=left_out)
    expected = [json.loads(json.dumps(burst_json(each, os.path.abspath))) for each in results]
    assert lines(tmp_path)[:3] == expected
    assert lines(tmp_path)[3:] == [
        {"files": [os.path.abspath("a\udcff.dng")], "error": "no raw"},
        {"files": [os.path.abspath("b.dng")], "reason": "1 frame"},
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
        os.path.abspath(results[2].reference),
        os.path.abspath(results[1].reference),
    ]


def test_the_list_is_the_same_from_any_folder_of_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = [burst_result(Path("out"), number) for number in range(3)]
    publish_report(Path("out"), results)
    first = lines(tmp_path / "out")
    assert all(os.path.isabs(path) for line in first for path in line["outputs"].values())
    monkeypatch.chdir(tmp_path / "out")
    publish_report(Path(), [replace(burst_result(Path(), 0), skipped=True, noise=None)])
    assert lines(tmp_path / "out") == first


def test_a_line_about_other_options_is_not_kept(tmp_path):
    burst = burst_result(tmp_path, 1)
    publish_report(tmp_path, [burst])
    publish_report(tmp_path, [replace(burst, skipped=True, noise=None, fingerprint=b"other")])
    (line,) = lines(tmp_path)
    assert line["noise"] is None and line["fingerprint"] == b"other".hex()


def test_a_burst_that_was_denoised_again_has_a_new_line(tmp_path):
    burst = burst_result(tmp_path, 1)
    publish_report(tmp_path, [burst])
    publish_report(tmp_path, [replace(burst, seconds=7.0)])
    assert [line["seconds"] for line in lines(tmp_path)] == [7.0]


def test_a_line_is_kept_if_fewer_formats_are_asked_for(tmp_path):
    burst = burst_result(tmp_path, 1)
    jpeg = burst.outputs["dng"].with_suffix(".jpg")
    jpeg.touch()
    publish_report(tmp_path, [replace(burst, outputs=burst.outputs | {"jpeg": jpeg})])
    first = lines(tmp_path)
    publish_report(tmp_path, [replace(burst, skipped=True, noise=None)])
    assert lines(tmp_path) == first


def test_the_list_is_written_even_if_the_pages_cannot_be(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_index, "page_links", full)
    with pytest.raises(KpnError, match="No space left"):
        publish_report(tmp_path, [burst_result(tmp_path, number) for number in range(3)])
    assert len(lines(tmp_path)) == 3


@pytest.mark.parametrize(
    "line",
    [
        b'{"reference": "a", "outputs": {"dng": "a\\u0000"}}\n',
        b"[" * 100_000 + b"\n",
        b'{"refer',
        b'{"reference": "b", "outputs": {"dng": "/"}}',
    ],
)
def test_lines_that_are_damaged_are_left_out(line, tmp_path):
    bursts = [burst_result(tmp_path, number) for number in range(2)]
    publish_report(tmp_path, bursts[:1])
    with (tmp_path / "report.jsonl").open("ab") as file:
        file.write(line)
    publish_report(tmp_path, bursts[1:])
    assert [Path(each["reference"]).name for each in lines(tmp_path)] == [
        "IMG_00001.dng",
        "IMG_00000.dng",
    ]


@pytest.mark.parametrize("content", ["my notes\n", "[1]\n", '{"a": 1}\n', '{"outputs": 3}\n'])
def test_a_list_of_another_program_is_not_replaced(content, tmp_path):
    (tmp_path / "report.jsonl").write_text(content)
    with pytest.raises(KpnError, match=r"report\.jsonl: already exists and is no report of kpn"):
        publish_report(tmp_path, [burst_result(tmp_path, 1)])
    assert (tmp_path / "report.jsonl").read_text() == content
