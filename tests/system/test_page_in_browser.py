"""The page of `timbrel mix` in a real browser: Debian's Chromium without a window, opened from the disk."""

import dataclasses
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.system, pytest.mark.browser]

FLAGS = (
    "--headless",
    "--no-sandbox",  # CI runs as root, which Chromium's sandbox refuses
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
REMEDY = (
    "needs Chromium, its driver and selenium: `apt-get install chromium chromium-driver` and "
    "`pip install selenium`, or leave these tests out with -m 'not browser'."
)
LONG = "a song with " + "averyverylongnamewithoutanyspace" * 4
SECONDS = 2.5


@pytest.fixture(scope="module")
def folder(tmp_path_factory, write_stems, prepare_stems):
    """Eight mixtures of three sources, of songs with a long name, as the command writes them."""
    root = tmp_path_factory.mktemp("browser")
    time_s = np.arange(48_000) / 16_000
    tones = {
        "violin": 0.7 * np.sin(2 * np.pi * 440 * time_s),
        "piano": 0.7 * np.sin(2 * np.pi * 220 * time_s),
        "electric bass": 0.7 * np.sin(2 * np.pi * 55 * time_s) * (time_s < 0.01),
    }
    prepare_stems(write_stems(root / "songs", {f"{LONG} <{number}>": tones for number in range(3)}), root / "library")
    command = [str(Path(sys.executable).parent / "timbrel"), "mix", "--library", "library", "--out", "mixed"]
    values = ["mixing.seconds=2.5", "mixing.p_single_source=0", "mixing.min_sources=3", "mixing.max_sources=3"]
    subprocess.run([*command, "--preset", "smoke", "-n", "8", "--config", *values], cwd=root, check=True)
    return root / "mixed"


@pytest.fixture(scope="module")
def chromium():
    """A browser for all tests: starting one takes seconds."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.fail(f"this test {REMEDY}", pytrace=False)
    try:
        from selenium import webdriver
    except ImportError:
        pytest.fail(f"this test {REMEDY}", pytrace=False)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        browser = webdriver.Chrome(options=options, service=service)
        browser.set_script_timeout(60)
        try:
            yield browser
        finally:
            browser.quit()


@dataclasses.dataclass
class Mixture:
    """One mixture on the page, with what a person does to it."""

    browser: object
    place: int

    @property
    def article(self):
        return self.all(".mixture", self.browser)[self.place]

    def all(self, selector, within=None):
        return (within or self.article).find_elements("css selector", selector)

    def click(self, selector, which=0):
        self.all(selector)[which].click()

    def sounds(self, what):
        """Return ``what`` of the whole mixture and of each stem, as JavaScript's ``audio`` has it."""
        script = f"return [...arguments[0].querySelectorAll('audio')].map((audio) => audio.{what})"
        return self.browser.execute_script(script, self.article)

    @property
    def position(self):
        return float(self.all("input[type=range]")[0].get_property("value"))

    def wait(self, what, timeout_s=20):
        deadline = time.monotonic() + timeout_s
        while not what():
            assert time.monotonic() < deadline, (self.position, self.sounds("currentTime"), self.sounds("paused"))
            time.sleep(0.02)


@pytest.fixture
def page(chromium, folder):
    """Open the page anew."""
    look(chromium)
    chromium.get((folder / "index.html").as_uri())
    chromium.get_log("browser")
    return chromium


@pytest.fixture
def mixture(page):
    return Mixture(page, 0)


def look(browser, width=1280, height=900, scheme="light"):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})


# What is there


def test_it_opens_without_a_complaint_and_without_a_network(chromium, folder):
    chromium.get((folder / "index.html").as_uri())
    assert chromium.title == "8 mixtures of the training split – multi_instrument – Timbrel"
    assert len(chromium.find_elements("css selector", ".mixture")) == 8
    assert chromium.get_log("browser") == []
    loaded = chromium.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all(name.startswith(("file:", "data:")) for name in loaded)


def test_every_sound_loads(page):
    answer = page.execute_async_script(
        """
        const done = arguments[0], sounds = [...document.querySelectorAll("audio")];
        Promise.all(sounds.map((audio) => new Promise((next) => {
          audio.onloadedmetadata = () => next([audio.duration, audio.error]);
          audio.onerror = () => next([null, audio.error.message]);
          audio.preload = "auto";
          audio.load();
        }))).then(done);
        """
    )
    assert len(answer) >= 8 * 3
    assert all(error is None and duration == pytest.approx(SECONDS, abs=1e-3) for duration, error in answer)


def test_every_picture_loads(page):
    sizes = page.execute_async_script(
        """
        const done = arguments[0], images = [...document.images];
        Promise.all(images.map((image) => image.decode().then(() => [image.naturalWidth, image.alt]))).then(done);
        """
    )
    assert len(sizes) == len(page.find_elements("css selector", "audio"))
    assert all(width > 300 and alt for width, alt in sizes)


@pytest.mark.parametrize("width", [320, 375, 768, 1280])
def test_nothing_is_wider_than_the_screen(page, width):
    look(page, width)
    page.execute_script("for (const fold of document.querySelectorAll('details')) fold.open = true")
    assert page.execute_script("return innerWidth") == width
    assert page.execute_script("return document.documentElement.scrollWidth") <= width
    wide = page.execute_script(
        """
        const inside = (each) => each.closest(".scroll, .picture") || each.matches(".skip");
        return [...document.body.querySelectorAll("*")]
          .filter((each) => !inside(each) && each.getBoundingClientRect().right > innerWidth + 1)
          .map((each) => each.outerHTML.slice(0, 90));
        """
    )
    assert wide == []


def test_light_and_dark(page):
    def brightness(of):
        colour = page.execute_script(f"return getComputedStyle(document.body).{of}")
        return sum(int(part) for part in colour[4:-1].split(",")[:3])

    assert brightness("backgroundColor") > 600 > 200 > brightness("color")
    look(page, scheme="dark")
    assert brightness("backgroundColor") < 200 < 600 < brightness("color")


# What it does


def test_play_plays_the_file_of_the_mixture(page, mixture):
    mixture.click(".play")
    mixture.wait(lambda: mixture.position > 0.3)
    assert mixture.sounds("muted") == [False, True, True, True]
    assert mixture.all(".play")[0].text == "Pause"
    assert max(mixture.sounds("volume")) == pytest.approx(float(mixture.article.get_attribute("data-gain")), abs=1e-4)
    mixture.click(".play")
    assert all(mixture.sounds("paused"))
    stood = mixture.sounds("currentTime")
    time.sleep(0.2)
    assert mixture.sounds("currentTime") == stood
    assert page.get_log("browser") == []


def test_mute_and_solo_while_it_plays(page, mixture):
    mixture.click(".repeat")
    mixture.click(".play")
    mixture.wait(lambda: mixture.position > 0.1)
    mixture.click(".mute", 1)
    assert mixture.sounds("muted") == [True, False, True, False]
    mixture.click(".solo", 0)
    assert mixture.sounds("muted") == [True, False, True, True]
    mixture.click(".solo", 1)
    assert mixture.sounds("muted") == [True, False, False, True]
    assert ["silenced" in row.get_attribute("class") for row in mixture.all(".stems > li")] == [False, False, True]
    mixture.click(".all")
    assert mixture.sounds("muted") == [False, True, True, True]
    assert not any(mixture.sounds("paused"))
    assert page.get_log("browser") == []


def test_the_stems_that_are_heard_are_in_step(mixture):
    mixture.click(".mute", 2)
    mixture.click(".play")
    mixture.wait(lambda: mixture.position > 1.2)
    _, first, second, _ = mixture.sounds("currentTime")
    assert abs(first - second) < 0.1


def test_alone_plays_one_source_from_the_start(mixture):
    mixture.click(".alone", 2)
    mixture.wait(lambda: mixture.position > 0.2)
    assert mixture.sounds("muted") == [True, True, True, False]
    assert not mixture.sounds("paused")[3]


def test_it_ends_or_repeats(mixture):
    mixture.click(".play")
    mixture.wait(lambda: mixture.position == SECONDS and all(mixture.sounds("paused")))
    assert mixture.all(".play")[0].text == "Play"
    mixture.click(".repeat")
    mixture.click(".play")
    mixture.wait(lambda: mixture.position > 1)
    mixture.wait(lambda: mixture.position < 0.5)
    assert mixture.all(".play")[0].text == "Pause"


def test_another_mixture_takes_over(page, mixture):
    other = Mixture(page, 1)
    mixture.click(".play")
    mixture.wait(lambda: mixture.position > 0.1)
    other.click(".play")
    other.wait(lambda: other.position > 0.1)
    assert all(mixture.sounds("paused"))
    assert not any(other.sounds("paused"))


def test_the_slider_and_the_pictures_go_to_a_moment(page, mixture):
    from selenium.webdriver import ActionChains, Keys

    mixture.all("input[type=range]")[0].send_keys(Keys.END)
    assert mixture.position == SECONDS
    picture = mixture.all(".picture")[1]
    ActionChains(page).move_to_element(picture).click().perform()  # its middle
    assert mixture.position == pytest.approx(SECONDS / 2, abs=0.05)
    mixture.click(".play")
    mixture.wait(lambda: mixture.position > SECONDS / 2 + 0.2)


def test_a_file_that_is_gone_is_said(chromium, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy/mixture-000000.wav").unlink()
    chromium.get((tmp_path / "copy/index.html").as_uri())
    mixture = Mixture(chromium, 0)
    mixture.click(".play")
    mixture.wait(mixture.all(".problem")[0].is_displayed)
    assert "mixture-000000.wav" in mixture.all(".problem")[0].text
    assert mixture.all(".play")[0].text == "Play"


def test_without_scripts_each_file_has_the_browsers_own_player(chromium, folder):
    chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        chromium.get((folder / "index.html").as_uri())
        mixture = Mixture(chromium, 0)
        assert all(player.is_displayed() for player in mixture.all("audio"))
        assert not mixture.all(".play")[0].is_displayed()
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
