"""The report page in a real browser, on a desktop and on a phone; its screenshots are kept in build/report/."""

import json
import re
import shutil

import pytest

from conftest import ROOT, command
from hkd.base.cli import UserError
from hkd.paper import experiments
from hkd.results import network_drawing, targets
from hkd.results.rows import TITLES
from hkd.stages import committed
from hkd.stages.stage import planned

KEPT = ROOT / "build/report"


@pytest.fixture(scope="module")
def page(paper_runs):
    """The page of the small runs, made as a user makes it."""
    KEPT.mkdir(parents=True, exist_ok=True)
    command("python/make_tables.py", "report", "--runs", paper_runs[0] / "runs", "--out", KEPT, check=0)
    return KEPT / "report.html"


@pytest.fixture
def browser(tmp_path):
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("no Chromium: docker/packages.sh install test")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    # No network: what the page would fetch fails, and is in the console's log.
    words = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"
    for word in (*words.split(), "host-resolver-rules=MAP * ~NOTFOUND", f"user-data-dir={tmp_path}"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def opened(browser, page, width, height):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    browser.get(page.as_uri())
    return browser.get_log("browser")


def test_no_console_error_and_nothing_is_fetched(browser, page):
    assert opened(browser, page, 1200, 900) == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    assert page.as_uri() in asked and [url for url in asked if url.startswith(("http", "ws"))] == []
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.read_text())


def test_every_figure_is_visible(browser, page):
    opened(browser, page, 1200, 900)
    found = browser.execute_script(
        "return [...document.querySelectorAll('figure > img, .zoom > img')].map(i => [i.alt, i.naturalWidth, i.getBoundingClientRect().width])"
    )
    figures = [t for t in targets.TARGETS.values() if t.form != "table"]
    assert all(natural > 100 and shown > 300 for alt, natural, shown in found if "training network" not in alt)
    assert all(any(alt.startswith(f"{t.label}. ") for alt, *_ in found) for t in figures)
    browser.save_screenshot(KEPT / "desktop.png")
    assert (KEPT / "desktop.png").stat().st_size > 20_000


def test_a_stage_shows_its_network_settings_digests_and_seeds(browser, page):
    opened(browser, page, 1200, 900)
    details = browser.find_element("xpath", "//details[summary[contains(., 'r26-r14-kd')]]")
    details.find_element("tag name", "summary").send_keys("\n")  # by keyboard
    picture = details.find_element("tag name", "img")
    assert picture.is_displayed() and int(picture.get_property("naturalHeight")) > 500
    text = details.text
    for words in (
        "r26-r14-kd-net3+batch=8",
        "sha256 of final.caffemodel",
        "random_seed",
        "lambda_kd",
        "teacher: r26-teacher",
    ):
        assert words in text, words
    picture.screenshot(str(KEPT / "network.png"))


def test_a_curve_is_zoomed_by_keyboard_and_scrolled(browser, page):
    opened(browser, page, 1200, 900)
    slider = browser.find_element("css selector", "[data-zooms]")
    image = browser.find_element("id", slider.get_attribute("data-zooms"))
    before = image.size["width"]
    slider.send_keys("\ue014" * 4)  # arrow right: 50 % each
    assert image.size["width"] == pytest.approx(3 * before, rel=0.02)
    from selenium.webdriver.support.ui import WebDriverWait

    box = browser.find_element("css selector", ".zoom")
    assert box.get_attribute("tabindex") == "0"
    box.send_keys("\ue014" * 3)
    scrolled = "return arguments[0].scrollLeft"
    WebDriverWait(browser, 5).until(lambda _: browser.execute_script(scrolled, box) > 0)  # it glides


def test_on_a_phone_nothing_sticks_out(browser, page):
    assert opened(browser, page, 390, 844) == []
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    browser.save_screenshot(KEPT / "phone.png")


def test_without_colours_curves_and_bars_are_told_apart():
    from hkd.results import canvas

    assert len(set(map(str, canvas.STYLES))) >= len(TITLES) <= len(set(canvas.HATCHES))


def test_an_empty_folder_of_runs_makes_a_page_of_dashes(tmp_path):
    (tmp_path / "runs").mkdir()
    command("python/make_tables.py", "report", "--runs", tmp_path / "runs", "--out", tmp_path, check=0)
    text = (tmp_path / "report.html").read_text()
    assert "from 0 records" in text and "91.70" in text


@pytest.mark.parametrize("name", ["cifar10-r26w32-r14", "mnist-r32-r8"])
def test_a_drawing_has_every_module_and_loss(name):
    for stage in committed.stages(experiments.experiment(name)):
        network = stage.network("data", 10_000)
        source = network_drawing.dot(network).source
        for layer in network.layer:
            if layer.loss_weight:
                assert f"{layer.type}, weight {layer.loss_weight[0]:g}" in source
        modules = {network_drawing.box_of(x.name) for x in network.layer if "stack" in x.name}
        assert all(module in source for module in modules)
        assert ("dashed" in source) == stage.declared.taught


def test_a_drawing_does_not_depend_on_the_fonts_of_a_machine(monkeypatch, tmp_path):
    network = planned(experiments.experiment("cifar10-r14-r8"), "layerwise", "kd").network("data", 10_000)
    before = network_drawing.svg(network)
    (tmp_path / "none.conf").write_text("<fontconfig></fontconfig>")
    monkeypatch.setenv("FONTCONFIG_FILE", str(tmp_path / "none.conf"))
    assert network_drawing.svg(network) == before


def test_without_graphviz_it_says_what_to_install(monkeypatch):
    stage = next(committed.stages(experiments.experiment("mnist-r32-r8")))
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(UserError, match="Debian package graphviz"):
        network_drawing.svg(stage.network("data", 10_000))
