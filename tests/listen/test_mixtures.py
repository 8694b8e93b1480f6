"""What is written: the very mixtures of a training run, stems that add up to them, and the truth about each."""

import dataclasses
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from timbrel.listen import example as example_module
from timbrel.listen import folder as folder_module
from timbrel.mixing.plan import SourcePlan
from timbrel.mixing.pool import Stream, mix
from timbrel.mixing.recipe import NO_EFFECTS
from timbrel.settings import evaluation_recipe
from timbrel.taxonomy import CLASSES


def read(file):
    audio, _ = soundfile.read(file, dtype="float32")
    return audio


def added_up(folder, facts):
    total = np.zeros_like(read(folder / facts["file"]))
    for source in facts["sources"]:
        total += read(folder / source["file"])
    return total


# Sound


def test_they_are_the_mixtures_of_training(mixtures, tone_index, short_recipe):
    out, facts = mixtures
    expected = mix(Stream(tone_index, short_recipe, 0, "train"), tone_index, range(12))
    for each, audio, labels in zip(facts["mixtures"], expected["audio"], expected["labels"], strict=True):
        np.testing.assert_array_equal(read(out / each["file"]), audio)
        assert each["labels"] == [name for name, on in zip(CLASSES, labels, strict=True) if on]
    assert [each["number"] for each in facts["mixtures"]] == list(range(12))


def test_stems_add_up_to_their_mixture(mixtures):
    out, facts = mixtures
    for each in facts["mixtures"]:
        np.testing.assert_array_equal(added_up(out, each), read(out / each["file"]))
    assert {file.name for file in (out / "stems").iterdir()} == {
        Path(source["file"]).name for each in facts["mixtures"] for source in each["sources"]
    }


def test_files_are_float_and_keep_what_passes_full_scale(write, tone_library, short_recipe, tmp_path):
    loud = dataclasses.replace(short_recipe, p_single_source=0.0, min_sources=5)
    facts = write(tone_library, tmp_path / "loud", loud)
    over = [each for each in facts["mixtures"] if (each["peak_dbfs"] or 0) > 0]
    assert over
    for each in over:
        assert soundfile.info(tmp_path / "loud" / each["file"]).subtype == "FLOAT"
        peak = np.abs(read(tmp_path / "loud" / each["file"])).max()
        assert peak > 1
        assert 20 * np.log10(peak) == pytest.approx(each["peak_dbfs"], abs=0.01)


def test_a_later_start_gives_the_later_mixtures(mixtures, write, tone_library, short_recipe, tmp_path):
    out, facts = mixtures
    later = write(tone_library, tmp_path / "later", short_recipe, start=7, count=3)
    assert later["mixtures"] == facts["mixtures"][7:10]
    assert (tmp_path / "later/mixture-000008.wav").read_bytes() == (out / "mixture-000008.wav").read_bytes()


def test_the_same_command_writes_the_same_bytes(mixtures, write, tone_library, short_recipe, tmp_path):
    out, _ = mixtures
    write(tone_library, tmp_path / "again", short_recipe)
    for file in out.rglob("*.*"):
        assert (tmp_path / "again" / file.relative_to(out)).read_bytes() == file.read_bytes(), file


def test_stereo(write, tone_library, tone_index, short_recipe, tmp_path):
    recipe = dataclasses.replace(short_recipe, channels=2)
    facts = write(tone_library, tmp_path / "stereo", recipe, count=3)
    expected = mix(Stream(tone_index, recipe, 0, "train"), tone_index, range(3))["audio"]
    for each, audio in zip(facts["mixtures"], expected, strict=True):
        written = read(tmp_path / "stereo" / each["file"])
        assert written.shape == (recipe.samples, 2)
        np.testing.assert_array_equal(written, audio.T)
        np.testing.assert_array_equal(added_up(tmp_path / "stereo", each), written)


# What is said of them


def test_labels_are_the_classes_of_the_sources_that_count(mixtures):
    _, facts = mixtures
    sources = [source for each in facts["mixtures"] for source in each["sources"]]
    assert {source["counts"] for source in sources} == {True, False}
    for each in facts["mixtures"]:
        counted = {name for source in each["sources"] if source["counts"] for name in source["classes"]}
        assert set(each["labels"]) == counted
    for source in sources:
        assert source["counts"] == (source["sounding_s"] >= facts["recipe"]["active_seconds"])
        if source["instrument"] == "electric bass":  # silent in every song
            assert not source["counts"]
            assert source["peak_dbfs"] is source["rms_dbfs"] is None
            assert source["sounding"] == []


def test_where_a_source_sounds(tone_index, short_recipe):
    (violin, *_) = np.flatnonzero(np.array(tone_index.names) == "violin")  # sounds from 1 to 2.5 s

    def heard(start_s, seconds):
        return example_module.sounding(SourcePlan(int(violin), start_s, seconds, ()), tone_index, short_recipe)

    # The catalogue's activity begins and ends up to 0.25 s from the sound.
    np.testing.assert_allclose(heard(0.5, 1.0), [[0.5, 1.0]], atol=0.25)
    np.testing.assert_allclose(heard(2.0, 1.0), [[0.0, 0.5]], atol=0.25)
    np.testing.assert_allclose(heard(0.0, 4.0), [[0.25, 0.625]], atol=0.25 / 4)  # four times as fast
    assert heard(3.0, 1.0).shape == (0, 2)


def test_where_sources_come_from(mixtures, tone_library):
    _, facts = mixtures
    for each in facts["mixtures"]:
        for source in each["sources"]:
            assert (tone_library / source["path"]).is_file()
            assert source["path"].startswith(f"{source['dataset']}/songs/{source['song']}/{source['instrument']}")
            assert all(set(effect) == {"name", "parameters", "words"} for effect in source["effects"])
        if each["musical"]:
            assert len({(source["song"], source["start_s"]) for source in each["sources"]}) == 1
    assert any(source["effects"] for each in facts["mixtures"] for source in each["sources"])
    assert (facts["split"], facts["seed"], facts["count"]) == ("train", 0, 12)


def test_transforms_that_a_recipe_names_tell_what_they_drew(write, tone_library, tone_index, short_recipe, tmp_path):
    text = "AddGaussianSNR(min_snr_db=10, max_snr_db=20, p=1.0)"
    effects = dataclasses.replace(NO_EFFECTS, others=(text,))
    recipe = dataclasses.replace(short_recipe, effects=effects, level_db=(-30.0, -20.0))
    facts = write(tone_library, tmp_path / "noisy", recipe)
    expected = mix(Stream(tone_index, recipe, 0, "train"), tone_index, range(12))["audio"]
    drawn = []
    for each, audio in zip(facts["mixtures"], expected, strict=True):
        np.testing.assert_array_equal(read(tmp_path / "noisy" / each["file"]), audio)
        for source in each["sources"]:
            *level, noise = source["effects"]
            assert len(level) == source["counts"]  # one that hardly sounds is not raised
            assert noise["name"] == text
            assert (set(noise["parameters"]) == {"seed"}) == (source["peak_dbfs"] is None)
            drawn += [noise["words"]] * (source["peak_dbfs"] is not None)
    assert len(set(drawn)) > 5  # not what another source drew
    assert all(words.startswith("Add Gaussian SNR: noise std 0.") for words in drawn), drawn


def test_parameters_of_any_transform_fit_into_json():
    given = {"rate": np.float32(0.5), "noise": np.arange(3), "on": True, "path": Path("x"), "none": None}
    plain = example_module._plain(given)
    assert json.loads(json.dumps(plain)) == {"rate": 0.5, "noise": [0, 1, 2], "on": True, "path": "x", "none": None}


# The command


ARGUMENTS = ("--preset", "smoke", "-n", "2")


def test_the_command(command, tone_library, tmp_path):
    status, out, _ = command("mix", "--library", tone_library, "--out", "new/mixed", *ARGUMENTS)
    assert status == 0
    assert out == "new/mixed: 2 mixtures with stems; open new/mixed/index.html in a browser\n"
    names = sorted(file.name for file in (tmp_path / "new/mixed").iterdir())
    assert names == ["index.html", "mixture-000000.wav", "mixture-000001.wav", "mixtures.json", "stems"]
    facts = json.loads((tmp_path / "new/mixed/mixtures.json").read_text())
    assert (facts["recipe"]["sample_rate"], facts["recipe"]["seconds"]) == (16_000, 4.0)
    assert facts["library"] == str(tone_library)


def test_evaluation_mixtures_are_those_that_a_model_is_judged_on(command, tone_library, instrument_task, tmp_path):
    from timbrel.config import with_values
    from timbrel.library import Library
    from timbrel.mixing.index import build_index

    command("mix", "--library", tone_library, "--out", "tested", "--split", "test", "--seed", 3, *ARGUMENTS)
    values = {**instrument_task.presets["smoke"], "evaluation.seed": 3}
    config = with_values(instrument_task.config_type(), values)
    index = build_index(Library.open(tone_library), "test", instrument_task, config)
    expected = mix(Stream(index, evaluation_recipe(config), 3, "test"), index, range(2))
    for number, audio in enumerate(expected["audio"]):
        np.testing.assert_array_equal(read(tmp_path / f"tested/mixture-{number:06d}.wav"), audio)
    facts = json.loads((tmp_path / "tested/mixtures.json").read_text())
    assert all(each["musical"] for each in facts["mixtures"])
    assert facts["recipe_name"] == "evaluation"


def test_the_recipe_can_be_that_of_the_other_splits(command, tone_library, tmp_path):
    command("mix", "--library", tone_library, "--out", "a", "--split", "valid", "--recipe", "training", *ARGUMENTS)
    command("mix", "--library", tone_library, "--out", "b", "--recipe", "evaluation", *ARGUMENTS)
    first, second = (json.loads((tmp_path / name / "mixtures.json").read_text()) for name in "ab")
    assert (first["recipe_name"], first["split"], first["recipe"]["p_musical"]) == ("training", "valid", 0.4)
    assert (second["recipe_name"], second["split"], second["recipe"]["p_musical"]) == ("evaluation", "train", 1.0)


def test_it_needs_neither_ray_nor_mlflow(tone_library, tmp_path):
    script = """
import sys
sys.modules["ray"] = sys.modules["mlflow"] = None  # importing them fails
from timbrel.cli import main
main(sys.argv[1:])
"""
    arguments = ["mix", "--library", str(tone_library), "--out", "mixed", *ARGUMENTS]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mixed/index.html").is_file()


# Errors of the user's


def assert_refused(result, *parts):
    status, _, errors = result
    *_, last = errors.strip().splitlines()  # after the progress bar
    assert status == 2
    assert last.startswith("timbrel: ")
    assert "Traceback" not in errors
    for part in parts:
        assert part in last


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ("--library nowhere --out m", ["nowhere is no prepared library", "timbrel prepare"]),
        ("--library nowhere --out m -n 0", ["--count 0: must be at least 1"]),
        ("--library nowhere --out m --start -1", ["--start -1: must be at least 0"]),
        ("--library nowhere --out m --task taging", ["unknown task 'taging': did you mean 'tagging'"]),
        ("--library nowhere --out m --config mixing.p_musicl=1", ["did you mean 'mixing.p_musical'"]),
        ("--library nowhere --out m --seed 1 --config seed=2", ["sets 'seed' twice"]),
        ("--library nowhere --out m --seed -1", ["seed=-1: should be greater than or equal to 0"]),
    ],
)
def test_errors_are_one_sentence(command, tmp_path, arguments, parts):
    assert_refused(command("mix", *arguments.split()), *parts)
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(command, tone_library, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/song.wav").touch()
    for out in ("there", "there/song.wav"):
        result = command("mix", "--library", tone_library, "--out", out, *ARGUMENTS)
        assert_refused(result, f"{out} is not empty: name a new folder by --out")
    result = command("mix", "--library", tone_library, "--out", "there/song.wav/mixed", *ARGUMENTS)
    assert_refused(result, "can't be written to", "--out")
    assert [file.name for file in (tmp_path / "there").iterdir()] == ["song.wav"]


def test_a_full_disk_leaves_nothing(command, tone_library, tmp_path, monkeypatch):
    write = folder_module.wavfile.write

    def full(file, *given):
        if "000001-1" in file.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, *given)

    monkeypatch.setattr(folder_module.wavfile, "write", full)
    result = command("mix", "--library", tone_library, "--out", "new/mixed", *ARGUMENTS)
    assert_refused(result, "the disk of new/mixed is full: free some space")
    assert not list(tmp_path.iterdir())


def test_a_damaged_library_leaves_nothing(command, write_stems, prepare_stems, tmp_path):
    tone = np.sin(np.arange(32_000) / 10)
    songs = {f"song {number}": {"piano": 0.3 * tone} for number in range(3)}
    prepare_stems(write_stems(tmp_path / "songs", songs), tmp_path / "library")
    for file in (tmp_path / "library").rglob("*.wav"):
        file.write_bytes(b"no sound")
    (tmp_path / "mixed").mkdir()
    result = command("mix", "--library", "library", "--out", "mixed", *ARGUMENTS)
    assert_refused(result, "piano.wav of the library can't be read", "prepare its data set anew")
    assert not list((tmp_path / "mixed").iterdir())


def test_an_interruption_leaves_nothing(command, tone_library, tmp_path, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_module, "pictures", interrupted)
    status, _, errors = command("mix", "--library", tone_library, "--out", "mixed", *ARGUMENTS)
    assert status == 130
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
