"""The source `medleydb`: multitracks of songs of many genres, with stems by instrument, V1 and V2.

Licence: CC BY-NC-SA 4.0 for the audio, which its authors give on request (https://medleydb.weebly.com); MIT for the
repository with the metadata (https://github.com/marl/medleydb). Citation: R. Bittner, J. Salamon, M. Tierney, M. Mauch,
C. Cannam and J. P. Bello, "MedleyDB: A Multitrack Dataset for Annotation-Intensive MIR Research", ISMIR 2014; for V2:
R. Bittner, J. Wilkins, H. Yip and J. P. Bello, "MedleyDB 2.0", ISMIR 2016 (late-breaking)::

    MedleyDB/
    ├── Audio/                                  or V1/ and V2/, or neither, with the songs in MedleyDB/ itself
    │   └── LizNelson_Coldwar/
    │       ├── LizNelson_Coldwar_STEMS/
    │       │   ├── LizNelson_Coldwar_STEM_01.wav
    │       │   └── ...
    │       ├── LizNelson_Coldwar_MIX.wav       not read
    │       ├── LizNelson_Coldwar_RAW/          not read
    │       └── LizNelson_Coldwar_METADATA.yaml where there is none in the next
    └── Metadata/                               the repository's medleydb/data/Metadata, copied here; or clone
        ├── LizNelson_Coldwar_METADATA.yaml     the repository and put Audio/, V1/ or V2/ into it
        └── ...

Without metadata there is nothing to tell a stem's instrument. Stems are stereo, 44.1 kHz. There are no official splits.

What is left out, and reported: songs with ``has_bleed: yes`` and single stems that bleed by ERRATA.md (93 of the 330
songs that the repository describes, of which V1 and V2 have 196; ``bleed=keep`` takes both); stems whose instrument is
outside the taxonomy (``Main System``, ``Unlabeled``, ``fx/processed sound``, ...); and stems of several instruments
whose classes differ. Of 106 such stems 60 agree in their classes, as ``male singer`` and ``vocalists`` do, and go by
the first. `timbrel.sources.medley_format` says why, and who counts as a song's artist.

The authors' ``ACTIVATION_CONF.lab`` are not read: they exist for these songs only, and count the stems that are left
out here. The library computes the same from the audio, by the same recipe, for every data set (`timbrel.activity`). Nor
are ``SOURCEID.lab``: these are the intervals in which that confidence is at least 0.5, which are computed too.

No loader of others is used: the repository's package needs the program sox, reads the metadata of its own folder, and
takes the audio's place from an environment variable when it is imported; mirdata's two loaders read MedleyDB's
annotations of melody and pitch, no stems. What is needed here is one YAML file a song.
"""

from pathlib import Path

from timbrel.errors import UserError
from timbrel.sources import medley_format
from timbrel.sources.base import Found
from timbrel.sources.medley_format import Layout, MedleyOptions

LAYOUT = Layout(
    audio=("Audio", "V1", "V2"),
    metadata=("Metadata", "medleydb/data/Metadata"),
    expected=(
        "expected folders Audio/<song>/<song>_STEMS and, in Metadata/ or beside the stems' folder, "
        "<song>_METADATA.yaml of github.com/marl/medleydb"
    ),
    bleeding=frozenset(
        {
            "BrandonWebster_DontHearAThing_STEM_02.wav",
            "ClaraBerryAndWooldog_Boys_STEM_01.wav",
            "ClaraBerryAndWooldog_Boys_STEM_05.wav",
            "LizNelson_ImComingHome_STEM_02.wav",
            "Lushlife_ToynbeeSuite_STEM_12.wav",
            "TheScarletBrand_LesFleursDuMal_STEM_08.wav",
        }
    ),
)


class MedleyDB:
    """Reads MedleyDB; see the module's docstring."""

    name = "medleydb"
    summary = "MedleyDB V1 and V2: stems of songs, with the authors' metadata"
    needs_path = True
    options_type = MedleyOptions

    def find(self, path: Path | None, options: MedleyOptions) -> Found:
        """Describe the songs below ``path``; see `timbrel.sources.medley_format`."""
        if path is None:
            raise UserError(f"the source 'medleydb' needs a path; {LAYOUT.expected}.")
        return medley_format.find(path, options, LAYOUT)


SOURCE = MedleyDB()
