"""PaSST: 768 numbers each 0.96 s, what the transformer's two class tokens hold of those 0.96 s.

Source: Koutini et al., "Efficient training of audio transformers with patchout" (Interspeech 2022), in its authors'
``hear21passt`` (Apache-2.0), which submitted it to HEAR 2021.
"""

import contextlib
import importlib
import io
import sys
import types
from collections.abc import Iterator

import torch

from timbrel.embeddings.teachers.packaged import Packaged, package
from timbrel.torchaudio_cpu import torchaudio

ARCHITECTURE = "passt_s_swa_p16_128_ap476"
"""What the package's own `load_model` takes."""


class PaSST(Packaged):
    """Windows of 0.96 s at 32 kHz ``(batch, 30720)`` to ``(batch, 768)``."""

    name = "passt"
    sample_rate = 32_000
    dimension = 768
    hop_s = window_s = 0.96
    file = "passt-s-f128-p16-s10-ap.476-swa.pt"
    where = "the releases of kkoutini/PaSST on GitHub"
    weighed = "network.net"  # the transformer, without the front end

    def __init__(self) -> None:
        super().__init__()
        assert torchaudio  # imported before the package imports it, which also works beside a torch without CUDA
        with package(self.name), _without_downloads():
            from hear21passt.models.passt import get_model
            from hear21passt.models.preprocess import AugmentMelSTFT
            from hear21passt.wrapper import PasstBasicWrapper
        # As the package's own `get_basic_model` builds it, which would download the weights; it prints the network.
        with contextlib.redirect_stdout(io.StringIO()):
            spectrogram = AugmentMelSTFT(
                n_mels=128, sr=self.sample_rate, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192,
                htk=False, fmin=0.0, fmax=None, norm=1, fmin_aug_range=10, fmax_aug_range=2000,
            )  # fmt: skip
            network = get_model(arch=ARCHITECTURE, pretrained=False)
        self.network = PasstBasicWrapper(mel=spectrogram, net=network, mode="embed_only")

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return what the class tokens hold of each window."""
        with contextlib.redirect_stdout(io.StringIO()):  # it prints the shapes of its first batch
            return self.network(windows)


@contextlib.contextmanager
def _without_downloads() -> Iterator[None]:
    """Do without timm, where it can't be imported: the package takes nothing from it but what downloads weights.

    It needs torchvision, whose wheels on the Python package index don't load beside a torch without CUDA.
    """
    try:
        importlib.import_module("timm.models._hub")
    except (ImportError, RuntimeError, OSError):
        pass
    else:
        yield
        return
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "torchvision")]:
        del sys.modules[name]
    stand_ins = {name: types.ModuleType(name) for name in ("timm", "timm.models", "timm.models._hub")}
    stand_ins["timm.models._hub"].download_cached_file = None  # type: ignore[attr-defined]  # an empty module
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            sys.modules.pop(name, None)


load = PaSST.load
