"""`timbrel export`: a trained model as a folder that needs neither Ray nor MLflow, and as ONNX."""

import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from timbrel.errors import UserError
from timbrel.trained import TrainedModel

ONNX = "model.onnx"
OPSET = 18

README = """# A model of timbrel's task {task}

Which of {count} classes (`labels.txt`) are heard in {seconds:g} s of mono sound at {rate} Hz.

    timbrel predict song.wav --run {name}

or from Python, without Ray and MLflow:

    from pathlib import Path
    from timbrel.trained import TrainedModel

    model = TrainedModel.load(Path("{name}"))
    for probabilities in model.probabilities(waveforms):  # float32 (clip, {samples}) -> (class,)
        present = [c for c, p in zip(model.classes, probabilities) if p >= model.thresholds[c]]

| file | what it is |
|---|---|
| `weights.pt` | the network's `state_dict`; `torch.load(..., weights_only=True)` reads it |
| `config.json` | every setting it was trained with |
| `thresholds.json` | the probability from which each class counts as present |
| `labels.txt` | the classes, in the order of the outputs |
{onnx}"""
ONNX_LINE = (
    f"| `{ONNX}` | the network, front end included: `waveform` float32 (batch, {{samples}}) to `probabilities` "
    "(batch, class) |\n"
)


def export_model(trained: TrainedModel, out: Path, onnx: bool = False) -> list[Path]:
    """Write a trained model to a new folder, and return the files.

    Raises:
        UserError: the folder is not empty, or ONNX is asked for and its packages are missing.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new folder by --out.")
    if onnx:
        _require_onnx()
    trained.save(out)
    (out / "labels.txt").write_text("\n".join(trained.classes) + "\n", encoding="utf-8")
    mixing = trained.config.mixing
    facts = {
        "task": trained.task.name,
        "count": len(trained.classes),
        "seconds": mixing.seconds,
        "rate": mixing.sample_rate,
        "samples": mixing.samples,
        "name": out.name,
    }
    (out / "README.md").write_text(README.format(onnx=ONNX_LINE.format(**facts) if onnx else "", **facts))
    if onnx:
        write_onnx(trained, out / ONNX)
    return sorted(out.iterdir())


def write_onnx(trained: TrainedModel, file: Path) -> None:
    """Write the network as one ONNX file: waveform ``(batch, sample)`` to probabilities ``(batch, class)``.

    The front end is part of it: ONNX has an STFT. Any number of clips of the model's own length.
    """
    network = nn.Sequential(trained.model, nn.Sigmoid()).eval()
    clips = torch.zeros(2, trained.config.mixing.samples)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # which operators of torchvision it does without
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            network,
            (clips,),
            input_names=["waveform"],
            output_names=["probabilities"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    program.save(str(file), external_data=False)


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"ONNX needs the package '{error.name}': pip install 'timbrel[onnx]'.") from None
