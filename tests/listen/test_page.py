"""The page: complete, self-contained, and safe with any name."""

import dataclasses
import re
from html.parser import HTMLParser
from urllib.parse import unquote

import numpy as np
import pytest

from timbrel.listen.example import Example
from timbrel.listen.page import changes, charts
from timbrel.listen.pictures import RANGE_DB, mel_power, pictures, waveform
from timbrel.mixing.recipe import Recipe
from timbrel.settings import Experiment, evaluation_recipe

NASTY = "<img src=x onerror=\"alert('1')\"> & Møønlight 月 {{ 7 * 7 }}"


class Page(HTMLParser):
    """Tags with their attributes, and the text outside of style and script."""

    def __init__(self, file):
        super().__init__()
        self.tags, self.text, self.inside = [], [], []
        self.feed(file.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag in ("style", "script"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.text.append(" ".join(data.split()))

    def all(self, tag, name):
        return [attributes[name] for each, attributes in self.tags if each == tag and name in attributes]


@pytest.fixture(scope="module")
def page(mixtures):
    return Page(mixtures[0] / "index.html")


# Content


def test_every_mixture_and_source_is_there(page, mixtures):
    _, facts = mixtures
    tracks = [track for each in facts["mixtures"] for track in (each, *each["sources"])]
    assert [unquote(address) for address in page.all("audio", "src")] == [track["file"] for track in tracks]
    assert len(page.all("img", "src")) == len(tracks)
    for each in facts["mixtures"]:
        assert f"Mixture {each['number']}" in page.text
        for source in each["sources"]:
            assert source["song"] in page.text
            assert all(effect["words"] in page.text for effect in source["effects"])
    hardly = [source for each in facts["mixtures"] for source in each["sources"] if not source["counts"]]
    assert len([text for text in page.text if text.startswith("Does not count for its label")]) == len(hardly) > 0


def test_it_loads_nothing_from_elsewhere(page, mixtures):
    out, _ = mixtures
    for address in [*page.all("audio", "src"), *page.all("a", "href")]:
        assert address.startswith("#") or (out / unquote(address)).is_file(), address
    assert all(address.startswith("data:image/webp") for address in page.all("img", "src"))
    assert page.all("link", "href") == ["data:,"]
    assert not page.all("script", "src")
    assert "url(" not in (out / "index.html").read_text(encoding="utf-8")


def test_everything_has_a_name(page):
    assert all(page.all("img", "alt"))
    for tag in ("button", "audio", "input"):
        names = [attributes.get("aria-label") for each, attributes in page.tags if each == tag]
        assert all(names)
        assert len(set(names)) == len(names)
    assert len(set(page.all("article", "id"))) == 12
    assert ("html", {"lang": "en"}) in page.tags


def test_a_page_stays_small(mixtures):
    out, facts = mixtures
    assert (out / "index.html").stat().st_size < 60_000 * len(facts["mixtures"])


@pytest.mark.parametrize("count", [1, 3])
def test_any_name_is_text(write_stems, prepare_stems, write, short_recipe, tmp_path, count):
    tone = 0.3 * np.sin(np.arange(32_000) / 10)
    songs = {f"{NASTY} {number}": {"violin": tone, "piano #1 100%": tone} for number in range(3)}
    prepare_stems(write_stems(tmp_path / "songs", songs), tmp_path / "library")
    write(tmp_path / "library", tmp_path / "mixed", short_recipe, count=count)
    page = Page(tmp_path / "mixed/index.html")
    assert not [attributes for _, attributes in page.tags if "onerror" in attributes]
    assert any(text.startswith(NASTY) for text in page.text)
    for address in page.all("audio", "src"):
        assert (tmp_path / "mixed" / unquote(address)).is_file(), address


def test_summary(mixtures):
    _, facts = mixtures
    kinds, sizes, labels = charts(facts).values()
    assert [bar.name for bar in kinds] == ["musical", "not musical"]
    assert sum(bar.mixtures for bar in kinds) == sum(bar.mixtures for bar in sizes) == 12
    assert kinds[0].mixtures == sum(each["musical"] for each in facts["mixtures"])
    found = {bar.name: bar.mixtures for bar in labels}
    assert set(found) == set(facts["classes"])
    assert all(found[name] == sum(name in each["labels"] for each in facts["mixtures"]) for name in found)
    assert labels[0].share == labels[0].mixtures / 12


def test_what_differs_in_the_recipe(page):
    assert changes(Recipe(), "training") == []
    assert changes(evaluation_recipe(Experiment()), "evaluation") == []
    assert changes(dataclasses.replace(Recipe(), p_musical=1.0), "training") == [("mixing.p_musical", "1.0", "0.4")]
    levelled = dataclasses.replace(Recipe(), level_db=(-32.0, -18.0))
    assert changes(levelled, "training") == [("mixing.level_db", "-32.0,-18.0", "none")]
    assert changes(evaluation_recipe(Experiment(mixing=levelled)), "evaluation") == []
    assert "2 recipe fields not at the default" in page.text  # sample rate and seconds of the fixture


def test_loud_mixtures_are_played_softer(write, tone_library, short_recipe, tmp_path):
    loud = dataclasses.replace(short_recipe, p_single_source=0.0, min_sources=5)
    facts = write(tone_library, tmp_path / "loud", loud)
    page = Page(tmp_path / "loud/index.html")
    gains = [float(gain) for gain in page.all("article", "data-gain")]
    for each, gain in zip(facts["mixtures"], gains, strict=True):
        peaks = [track["peak_dbfs"] for track in (each, *each["sources"]) if track["peak_dbfs"] is not None]
        assert gain == pytest.approx(min(1.0, 10 ** (-max(peaks) / 20)), abs=1e-4)
    assert any(text.startswith("Passes full scale by") for text in page.text)
    assert min(gains) < 1


# Pictures


def test_a_tone_is_a_line_at_its_pitch():
    rate = 16_000
    low, high = (np.sin(2 * np.pi * hz * np.arange(rate) / rate)[None].astype(np.float32) for hz in (220, 2_000))
    rows = [int(mel_power(tone, rate).mean(axis=1).argmax()) for tone in (low, high)]
    assert rows[0] < rows[1]
    power = 10 * np.log10(mel_power(high, rate) + 1e-12)
    assert np.ptp(power[rows[1]]) < 3  # as loud at the ends as in the middle
    assert power[rows[1]].mean() - power[5].mean() > RANGE_DB / 2


def test_waveforms_share_a_scale():
    def height(picture):
        down = [float(y) for y in re.findall(r",([\d.]+)", picture.waveform)]
        return max(down) - min(down)

    loud = np.sin(np.arange(8_000) / 5).astype(np.float32)
    drawn = list(pictures(Example({}, 1.1 * loud, [loud, 0.1 * loud, 0 * loud]), 16_000))
    assert [height(picture) for picture in drawn] == pytest.approx([2, 2 / 1.1, 0.2 / 1.1, 0], abs=0.02)
    assert len({picture.spectrogram for picture in drawn}) == 4
    assert waveform(np.zeros((1, 3))).startswith("M0,1.00L")


def test_silence_has_a_picture():
    silent = np.zeros((2, 16_000), dtype=np.float32)
    first, second = pictures(Example({}, silent, [silent]), 16_000)
    assert first == second
