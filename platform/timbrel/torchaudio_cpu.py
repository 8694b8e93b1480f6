"""torchaudio, importable with a CPU-only torch as well.

The torchaudio wheels on the Python package index are linked against CUDA, so beside a CPU-only torch ``import
torchaudio`` fails with ``OSError: libc10_cuda.so``. All that we use of it is Python on torch operators, which
does not need the compiled extension. So where, and only where, that import fails beside a torch without CUDA,
the extension is replaced by the same stand-in that torchaudio uses when it was built without one. A CUDA
machine is untouched.

Import torchaudio from here::

    from timbrel.torchaudio_cpu import torchaudio
"""

import sys
import types
from typing import Any, NoReturn

import torch


def _unavailable(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("this torchaudio function needs torchaudio's compiled extension, which needs CUDA")


def _without_extension() -> types.ModuleType:
    extension = types.ModuleType("torchaudio._extension")
    vars(extension).update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        fail_if_no_align=lambda function: _unavailable,
        _check_cuda_version=lambda: None,
    )
    return extension


try:
    import torchaudio
except OSError:
    if torch.version.cuda is not None:
        raise
    for name in [name for name in sys.modules if name.split(".")[0] == "torchaudio"]:
        del sys.modules[name]
    sys.modules["torchaudio._extension"] = _without_extension()
    import torchaudio

import torchaudio.transforms  # noqa: E402  after the stand-in, on which it depends

STAND_IN = not hasattr(sys.modules.get("torchaudio._extension"), "__file__")
"""Whether the extension is replaced."""

__all__ = ["STAND_IN", "torchaudio"]
