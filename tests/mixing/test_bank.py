"""The bank: rendered once, found again, drawn as near as it comes to what the recipe asks for."""

import contextlib
import dataclasses
import errno
import json
import shutil

import numpy as np
import pytest
import soundfile

from timbrel.config import with_values
from timbrel.errors import UserError
from timbrel.library import Library
from timbrel.mixing import bank as banks
from timbrel.mixing.bank import Bank, add_bank
from timbrel.mixing.index import build_index
from timbrel.mixing.plan import plan_mixture
from timbrel.mixing.recipe import Effect, Effects
from timbrel.mixing.render import render_source

TWO = Bank(steps=2)


@pytest.fixture
def library(tone_library, tmp_path):
    """A library of its own: ``clicks``, without a bank."""
    root = tmp_path / "library"
    root.mkdir()
    shutil.copy(tone_library / "library.json", root)
    shutil.copytree(tone_library / "clicks", root / "clicks")
    return root


@pytest.fixture
def config(tiny_config):
    return with_values(tiny_config, {"mixing.p_musical": 0.0, "mixing.stretch": "bank"})


def test_variants_are_the_middles_of_equal_parts():
    variants = Bank(steps=4).variants()
    assert variants[:4] == ((-1.5, 1.0), (-0.5, 1.0), (0.5, 1.0), (1.5, 1.0))
    assert [rate for _, rate in variants[4:8]] == pytest.approx([0.85625, 0.96875, 1.08125, 1.19375])
    pitches, rates = zip(*variants[8:], strict=True)
    assert set(pitches) == {-1.5, -0.5, 0.5, 1.5}
    assert set(rates) == {rate for _, rate in variants[4:8]}


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"steps": 3}, "changes nothing"), ({"semitones": (2, -2)}, "low to high"), ({"rates": (0, 1.5)}, "above 0")],
)
def test_impossible_banks_are_refused(values, reason):
    with pytest.raises(ValueError, match=reason):
        Bank(**values)


def test_a_bank_is_rendered_once(library):
    known, done = add_bank(library, "clicks", TWO)
    assert done
    opened = Library.open(library)
    assert opened.bank("clicks") == TWO.variants()
    files = list((library / "clicks" / "bank").rglob("*.wav"))
    assert len(files) == 6 * len(opened.catalogue(["clicks"]))
    assert known["bytes"] == sum(file.stat().st_size for file in files)
    row = opened.catalogue(["clicks"]).to_pylist()[0]
    for number, (_, rate) in enumerate(TWO.variants()):
        name = row["path"].removeprefix("clicks/songs/")
        assert soundfile.info(library / "clicks" / "bank" / str(number) / name).frames == round(row["frames"] / rate)
    assert add_bank(library, "clicks", TWO) == (known, False)
    digest = opened.digest()
    _, done = add_bank(library, "clicks", Bank(steps=2, semitones=(-1, 1)))
    assert done
    assert Library.open(library).bank("clicks")[0] == (-0.5, 1.0)
    assert Library.open(library).digest() == digest
    assert not list(library.glob("clicks/.bank*"))


def test_the_nearest_variant_of_the_same_kind_is_drawn(library, config, instrument_task):
    add_bank(library, "clicks", TWO)
    index = build_index(Library.open(library), "train", instrument_task, config)
    exact = dataclasses.replace(config.mixing, stretch="exact")
    kinds = set()
    for number in range(300):
        plan = plan_mixture(index, config.mixing, 0, "train", number)
        for source, asked in zip(plan.sources, plan_mixture(index, exact, 0, "train", number).sources, strict=True):
            assert source.stem == asked.stem
            wanted = next((effect.parameters for effect in asked.effects if effect.name == "pitch_time"), None)
            if wanted is None:
                assert source.variant is None
                continue
            assert source.effects[0].name == "pitch_time"
            found = source.effects[0].parameters
            assert (found["semitones"], found["rate"]) == TWO.variants()[source.variant]
            assert (found["semitones"] != 0) == (wanted["semitones"] != 0)
            assert (found["rate"] != 1) == (wanted["rate"] != 1)
            if wanted["rate"] == 1:
                assert abs(found["semitones"] - wanted["semitones"]) <= 1
            kinds.add(source.variant)
    assert kinds == set(range(6))


def test_a_variant_sounds_as_if_it_were_rendered_now(library, config, instrument_task):
    effects = Effects(**{name: Effect(p=0, low=1, high=1) for name in Effects().drawn})
    always = dataclasses.replace(effects, time_stretch=Effect(p=1, low=0.8, high=1.25))
    recipe = dataclasses.replace(config.mixing, effects=always)
    config = dataclasses.replace(config, mixing=recipe)
    add_bank(library, "clicks", TWO)
    index = build_index(Library.open(library), "train", instrument_task, config)
    for number in range(10):
        for source in plan_mixture(index, recipe, 0, "train", number).sources:
            kept = render_source(source, index, recipe)
            now = render_source(dataclasses.replace(source, variant=None), index, recipe)
            assert kept.shape == now.shape == (recipe.samples,)
            # Frames fall elsewhere, so it is the spectrum that agrees.
            levels = [20 * np.log10(np.sqrt(np.mean(audio**2))) for audio in (kept, now)]
            assert levels[0] == pytest.approx(levels[1], abs=1.0)


def test_a_recipe_that_needs_a_bank_says_so(library, config, instrument_task):
    with pytest.raises(UserError, match=r"'clicks' of .* has no bank of variants: prepare it again with --bank"):
        build_index(Library.open(library), "train", instrument_task, config)
    none = {f"mixing.effects.{name}.p": 0.0 for name in ("pitch_shift", "time_stretch")}
    assert build_index(Library.open(library), "train", instrument_task, with_values(config, none)).variants == ()


def test_data_sets_with_different_banks_are_refused(
    library, config, instrument_task, tmp_path, write_stems, prepare_stems
):
    songs = {f"song {number}": {"piano": np.full(16_000, 0.1)} for number in range(3)}
    prepare_stems(write_stems(tmp_path / "other", songs), library, "other")
    add_bank(library, "clicks", TWO)
    add_bank(library, "other", Bank(steps=4))
    with pytest.raises(UserError, match="different banks"):
        build_index(Library.open(library), "train", instrument_task, config)


def test_a_full_disk_leaves_the_library_as_it_was(library, monkeypatch):
    add_bank(library, "clicks", TWO)
    before = json.loads((library / "clicks" / "dataset.json").read_text())

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(banks.soundfile, "write", full)
    with pytest.raises(UserError, match=r"disk of .* is full: a bank of 12 variants"):
        add_bank(library, "clicks", Bank(steps=4))
    assert json.loads((library / "clicks" / "dataset.json").read_text()) == before
    assert not (library / "clicks" / ".bank").exists()


def test_prepare_adds_a_bank_to_what_is_there(command, tmp_path, write_stems, monkeypatch):
    monkeypatch.setattr("timbrel.runtime.ray_session", contextlib.nullcontext)
    tone = 0.3 * np.sin(np.arange(16_000) / 20)
    write_stems(tmp_path / "songs", {f"song {number}": {"piano": tone} for number in range(3)})
    status, out, _ = command("prepare", "stems", "songs", "--library", "library")
    assert (status, "bank" in out) == (0, False)
    status, out, _ = command("prepare", "stems", "songs", "--library", "library", "--bank", "steps=2")
    assert status == 0
    assert "nothing to do" in out
    assert "bank of 6 variants (-1.00 semitones, +1.00 semitones, at 0.91x speed" in out
    status, out, _ = command("prepare", "stems", "songs", "--library", "library", "--bank", "steps=2")
    assert (status, "was there already" in out) == (0, True)
    status, _, err = command("prepare", "stems", "songs", "--library", "library", "--bank", "step=2")
    assert status == 2
    assert "did you mean 'steps'" in err
