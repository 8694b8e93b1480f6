"""The source `mixing_secrets`: multitracks of the Mixing Secrets library, in MedleyDB's format.

The recordings are those of the 'Mixing Secrets' Free Multitrack Download Library (https://cambridge-mt.com/ms/mtk),
given for educational purposes; each has terms of its own. The metadata are by S. Gururani and A. Lerch, in
https://github.com/SiddGururani/mixing_secrets, which has no licence. Citation: S. Gururani and A. Lerch, "Mixing
Secrets: A Multi-Track Dataset for Instrument Recognition in Polyphonic Music", ISMIR 2017 (late-breaking)::

    mixing_secrets/
    ├── Medley_Format/Audio/                    or Audio/, or neither, with the songs in mixing_secrets/ itself
    │   └── Actions_DevilsWords/
    │       ├── Actions_DevilsWords_STEMS/
    │       │   ├── Actions_DevilsWords_STEM_drums.wav    made: the mean of the kit's microphones
    │       │   ├── 12_ElecGtr1.wav                       a raw track, named as its maker did
    │       │   └── ...
    │       ├── Actions_DevilsWords_RAW/        not read
    │       └── Actions_DevilsWords_METADATA.yaml         where there is none in the next
    └── metadata/
        ├── Actions_DevilsWords_METADATA.yaml   the same with tidier names of instruments
        └── ...

The repository's ``generate_yaml.py`` makes the stems from the downloads, all of them mono: drums, loops, synthesizers
and sound effects are averaged into a stem each, so they are softer than in the mix; every other track is a stem. The
metadata know an artist by the beginning of the song's name. ``genre`` and ``instrumental`` were never filled in and are
not read; nor are the ``ACTIVATION_CONF.lab``, see `medleydb`. There are no official splits, and no loader of others.

What is left out, and reported: songs with ``has_bleed: yes`` (38 of 258; ``bleed=keep`` takes them), stems whose
instrument is outside the taxonomy (``main system``, ``fx/processed sound``, ...), and stems of several instruments
whose classes differ (13); `timbrel.sources.medley_format` says why. A song's remixes fall into the split of the song.

Many songs are in MUSDB18 too, and some of their artists in MedleyDB: compare names before testing on one what was
trained on another.
"""

from pathlib import Path

from timbrel.errors import UserError
from timbrel.sources import medley_format
from timbrel.sources.base import Found
from timbrel.sources.medley_format import Layout, MedleyOptions

LAYOUT = Layout(
    audio=("Medley_Format/Audio", "Audio"),
    metadata=("metadata",),
    expected=(
        "expected folders Medley_Format/Audio/<song>/<song>_STEMS and, in metadata/ or beside the stems' folder, "
        "<song>_METADATA.yaml of github.com/SiddGururani/mixing_secrets"
    ),
)


class MixingSecrets:
    """Reads Mixing Secrets; see the module's docstring."""

    name = "mixing_secrets"
    summary = "Mixing Secrets in MedleyDB's format: stems of songs, with the metadata of its users"
    needs_path = True
    options_type = MedleyOptions

    def find(self, path: Path | None, options: MedleyOptions) -> Found:
        """Describe the songs below ``path``; see `timbrel.sources.medley_format`."""
        if path is None:
            raise UserError(f"the source 'mixing_secrets' needs a path; {LAYOUT.expected}.")
        return medley_format.find(path, options, LAYOUT)


SOURCE = MixingSecrets()
