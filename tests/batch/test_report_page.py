"""The report in a browser: sliders, keys, narrow windows, no scripts."""

from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import texture
from PIL import Image
from report_pages import info_of, noisy, picture

from kpn_cli.batch import report
from kpn_cli.image.noise_model import NoiseModel
from kpn_cli.merge.merge import Denoised
from kpn_cli.noise.selection import NoiseReport
from kpn_cli.pipeline import outputs
from kpn_cli.pipeline.denoise import Computed
from kpn_cli.pipeline.options import Options
from kpn_cli.pipeline.result import Failure, Result

CHROMIUM, CHROMEDRIVER = shutil.which("chromium"), shutil.which("chromedriver")


def publish(folder: Path, count: int) -> Path:
    """Write a page of bursts of 640x1600 pixels, without denoising any."""
    soft = cv2.resize(texture(5, 80, 200), (800, 320), interpolation=cv2.INTER_CUBIC)
    clean = 0.2 + 0.5 * soft[None].repeat(4, 0)
    options = Options(folder, report=True)
    results = []
    with report.collect_sections(options, count) as sections:
        for number in range(count):
            path = Path(f"IMG_{number:04d}_with_a_name_that_is_rather_long.dng")
            frames = [path, *(Path(f"frame_{n}.dng") for n in range(4))]
            result = Result(
                path,
                frames,
                outputs.output_paths(path, folder, options.formats),
                dropped={Path("other.dng"): "shows something else"},
                noise=NoiseReport(
                    "measured", NoiseModel((1e-3,) * 4, (1e-5, 2e-5, 1e-5, 1e-5)), "Look!"
                ),
                shifts=[(0, 0), *[(-4, 12)] * 4],
                agreement=[1.0, *[0.8] * 4],
                exposure=[1.0, *[1.1] * 4],
                noise_left=0.1,
                device="cpu",
                seconds=3.0,
                timings={"read": 1.0, "denoise": 2.0},
                fingerprint=bytes([number]) * 16,
            )
            info = info_of(640, 1600, path=path)
            computed = Computed(
                result.fingerprint,
                info,
                Denoised(clean, 0.1),
                {},
                result,
                reference=noisy(clean),
            )
            results.append(sections.add(computed, result))
        failures = [Failure((Path("a.dng"),), "a.dng: is no raw")]
        return report.publish(
            options, results, failures, [sections.collected], planned=count, seconds=3.0
        )


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    return publish(tmp_path_factory.mktemp("page"), 3)


@pytest.fixture(scope="module")
def chromium():
    if CHROMIUM is None or CHROMEDRIVER is None:
        pytest.skip("needs chromium and chromedriver (Debian's packages of these names)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless=new", "--no-sandbox", "--hide-scrollbars", "--disable-gpu"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(CHROMEDRIVER)
    with webdriver.Chrome(options=options, service=service) as driver:
        driver.set_page_load_timeout(120)
        yield driver


@pytest.fixture
def look(chromium, page):
    """Open the page in a window of some size."""

    def open_page(width: int, height: int, *, script: bool = True):
        chromium.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
        chromium.get("about:blank")
        chromium.get(page.as_uri())
        return chromium

    return open_page


def test_the_page_that_is_looked_at_has_pictures(page):  # noticed without a browser, too
    assert page.read_text("utf-8").count('<img src="data:image/jpeg') >= 3 * 5


def one(driver, selector: str):
    return driver.find_element("css selector", selector)


def painted(driver) -> None:
    """Wait until what was changed is on the screen."""
    driver.execute_async_script(
        "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done))"
    )


def seen(driver) -> np.ndarray:
    """What a stage shows."""
    driver.execute_script("document.querySelector('.pan').scrollIntoView()")
    painted(driver)  # what comes into sight may take another size
    shot = one(driver, ".pan").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), np.float64)


def part(driver, kind: str) -> np.ndarray:
    """The first part, as it is on the page."""
    source = one(driver, f".pair .{kind} img").get_attribute("src")
    return picture(base64.b64decode(source.partition(",")[2]))


def test_the_divider_separates_before_and_after_at_100_percent(look):
    driver = look(1280, 900)
    shown, before, after = seen(driver), part(driver, "before"), part(driver, "after")
    assert shown.shape == before.shape == (512, 768, 3)
    # Not the tags above, nor the line in the middle.
    left, right = np.s_[60:500, 4:350], np.s_[60:500, 420:760]
    assert abs(shown[left] - before[left]).mean() < 1 < abs(shown[left] - after[left]).mean()
    assert abs(shown[right] - after[right]).mean() < 1 < abs(shown[right] - before[right]).mean()


def test_arrow_keys_move_the_divider(look):
    from selenium.webdriver.common.keys import Keys

    driver = look(1280, 900)
    slider = one(driver, ".slider")
    assert slider.accessible_name.startswith("Divider")
    slider.send_keys(Keys.ARROW_LEFT * 10)
    assert slider.get_attribute("value") == "40"
    slider.send_keys(Keys.HOME)
    after = part(driver, "after")
    assert abs(seen(driver) - after)[60:500, 40:760].mean() < 1
    slider.send_keys(Keys.END)
    before = part(driver, "before")
    assert abs(seen(driver) - before)[60:500, 8:700].mean() < 1
    assert slider.get_attribute("aria-valuetext") == "100 % before"


def test_a_mouse_drags_the_divider_from_anywhere(look):
    from selenium.webdriver import ActionChains

    driver = look(1280, 900)
    stage = one(driver, ".pan")
    ActionChains(driver).move_to_element(stage).click_and_hold().move_by_offset(
        -192, 30
    ).release().perform()
    assert float(one(driver, ".slider").get_attribute("value")) == pytest.approx(25, abs=1)


def test_keys_choose_crops(look):
    from selenium.webdriver.common.keys import Keys

    driver = look(1280, 900)
    first = seen(driver)
    places = driver.find_elements("css selector", ".burst:first-child .places input")
    assert len(places) >= 2
    places[0].send_keys(Keys.ARROW_DOWN)
    assert places[1].is_selected()
    second = seen(driver)
    assert abs(second - first).mean() > 5
    one(driver, "body").send_keys("1")
    assert places[0].is_selected()
    assert abs(seen(driver) - first).mean() < 1


def test_j_and_k_go_from_burst_to_burst(look):
    driver = look(1280, 900)
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]},
    )
    ids = []
    for key in "jjk":
        driver.switch_to.active_element.send_keys(key)
        ids.append(driver.switch_to.active_element.get_attribute("id"))
    assert ids == ["burst-1", "burst-2", "burst-1"]


@pytest.mark.parametrize(("width", "height"), [(360, 740), (390, 844), (1280, 900)])
def test_the_page_fits_narrow_windows(look, width, height):
    driver = look(width, height)
    for details in driver.find_elements("css selector", "summary"):
        details.click()
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    picture = one(driver, ".pair.on .after img").rect
    assert (picture["width"], picture["height"]) == (768, 512)  # 100 %
    slider = one(driver, ".slider").rect
    assert slider["x"] >= 0 and slider["x"] + slider["width"] <= width
    assert slider["height"] >= 44
    assert [entry for entry in driver.get_log("browser") if entry["level"] != "DEBUG"] == []


def test_on_a_phone_the_divider_stays_visible_when_the_picture_scrolls(look):
    driver = look(360, 740)
    driver.execute_script("document.querySelector('.pan').scrollLeft = 200")
    painted(driver)
    line = one(driver, ".line").rect
    assert line["x"] + line["width"] / 2 == pytest.approx(180, abs=2)
    shown, before, after = seen(driver), part(driver, "before"), part(driver, "after")
    left, right = np.s_[60:500, 4:150], np.s_[60:500, 210:350]
    assert abs(shown[left] - before[:, 200:560][left]).mean() < 1
    assert abs(shown[right] - after[:, 200:560][right]).mean() < 1


def test_without_scripts_both_pictures_are_shown(look):
    driver = look(1280, 900, script=False)
    before, after = (one(driver, f".pair .{kind}").rect for kind in ("before", "after"))
    assert min(before["width"], before["height"], after["width"], after["height"]) > 300
    apart = (
        before["x"] + before["width"] <= after["x"] or before["y"] + before["height"] <= after["y"]
    )
    assert apart
    assert not one(driver, ".slider").is_displayed()
    assert len(driver.find_elements("css selector", ".burst:first-child .pair")) >= 2
    look(1280, 900)  # for the tests that follow
