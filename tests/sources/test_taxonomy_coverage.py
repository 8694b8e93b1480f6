"""The data sets' own files name no instrument that the taxonomy does not know; see also tests/test_taxonomy.py."""

import json

import yaml

from timbrel.taxonomy import DRUM_PROGRAM, TAXONOMY


def unknown(names):
    return sorted(name for name in names if TAXONOMY.lookup(name) is None)


def test_medleydb(layouts):
    """In the stems and the raw tracks of all 330 songs."""
    files = sorted((layouts / "medleydb_repo/medleydb/data/Metadata").iterdir())
    names = set()
    for file in files:
        for stem in yaml.safe_load(file.read_text(encoding="utf-8"))["stems"].values():
            for each in (stem, *stem["raw"].values()):
                names.update([each["instrument"]] if isinstance(each["instrument"], str) else each["instrument"])
    assert (len(files), len(names)) == (330, 101)
    assert unknown(names) == []


def test_medleydb_tree_of_instruments(layouts):
    """The names that MedleyDB's own taxonomy offers, whether a song has them or not."""
    tree = yaml.safe_load((layouts / "medleydb_repo/medleydb/resources/taxonomy.yaml").read_text(encoding="utf-8"))
    kinds = [kind for group in tree.values() for kind in (group.values() if isinstance(group, dict) else [group])]
    names = {name for kind in kinds for name in kind}
    assert len(names) > 100
    assert unknown(names) == []


def test_slakh(layouts):
    """Its table of General MIDI programs, and the tracks that are at hand."""
    table = layouts / "slakh_utils_repo/midi_inst_values/general_midi_inst_0based.json"
    rows = json.loads(table.read_text(encoding="utf-8"))
    assert {int(program) for program in rows} >= set(range(128))
    assert unknown({row["class"] for row in rows.values()} | {row["name"] for row in rows.values()}) == []
    tracks = sorted((layouts / "slakh").rglob("metadata.yaml"))
    stems = [stem for file in tracks for stem in yaml.safe_load(file.read_text(encoding="utf-8"))["stems"].values()]
    assert stems
    assert unknown({stem["inst_class"] for stem in stems}) == []
    assert all(0 <= stem["program_num"] <= DRUM_PROGRAM for stem in stems)
