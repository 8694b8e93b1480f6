"""`timbrel export`: a trained model as a folder that needs neither Ray nor MLflow, and as ONNX."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from timbrel.errors import UserError
from timbrel.trained import TrainedModel

ONNX = "model.onnx"
OPSET = 18

README = """# A model of timbrel's task {task}

{answer}

    timbrel predict song.wav --run {name}

or from Python, without Ray and MLflow:

    from pathlib import Path
    from timbrel.trained import TrainedModel

    model = TrainedModel.load(Path("{name}"))
    for probabilities in model.probabilities(waveforms):  # float32 (clip, {shape}) -> (class,)
        present = [c for c, p in zip(model.classes, probabilities) if p >= model.thresholds[c]]
{usage}
| file | what it is |
|---|---|
| `weights.pt` | the network's `state_dict`; `torch.load(..., weights_only=True)` reads it |
| `config.json` | every setting it was trained with |
| `thresholds.json` | the probability from which each class counts as present{others} |
| `labels.txt` | the classes, in the order of the outputs |
{onnx}"""
ONNX_LINE = (
    f"| `{ONNX}` | the network, front end included: `waveform` float32 (batch, {{shape}}) to {{onnx_outputs}} |\n"
)


def export_model(trained: TrainedModel, out: Path, onnx: bool = False) -> list[Path]:
    """Write a trained model to a new folder, and return the files.

    Raises:
        UserError: the folder is not empty, or ONNX is asked for and its packages are missing or the network is not to
            be had as ONNX.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not empty: name a new folder by --out.")
    task, config = trained.task, trained.config
    outputs: Mapping[str, str] = {}
    if onnx:
        _require_onnx()
        _, outputs = task.onnx_network(trained.model, config)  # it may be refused: before anything is written
    trained.save(out)
    (out / "labels.txt").write_text("\n".join(trained.classes) + "\n", encoding="utf-8")
    others = [name for name in trained.thresholds if name not in trained.classes]
    facts = {
        "task": task.name,
        "answer": task.answer(config),
        "usage": task.usage(config),
        "others": f", and those of {' and '.join(others)}" if others else "",
        "shape": ", ".join(map(str, trained.input_shape)),
        "name": out.name,
        "onnx_outputs": ", ".join(f"`{name}` {shape}" for name, shape in outputs.items()),
    }
    (out / "README.md").write_text(README.format(onnx=ONNX_LINE.format(**facts) if onnx else "", **facts))
    if onnx:
        write_onnx(trained, out / ONNX)
    return sorted(out.iterdir())


def write_onnx(trained: TrainedModel, file: Path) -> None:
    """Write the network as one ONNX file, waveform ``(batch, sample)`` to what its task names: see
    ``Task.onnx_network``.

    The front end is part of it: ONNX has an STFT. Any number of clips of the model's own length.
    """
    network, outputs = trained.task.onnx_network(trained.model, trained.config)
    clips = torch.zeros(2, *trained.input_shape)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # which operators of torchvision it does without
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program: Any = torch.onnx.export(
            network.eval(),
            (clips,),
            input_names=["waveform"],
            output_names=list(outputs),
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    program.save(str(file), external_data=False)


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401  only to see whether it is there
        import onnxscript  # noqa: F401  likewise
    except ImportError as error:
        raise UserError(f"ONNX needs the package '{error.name}': pip install 'timbrel[onnx]'.") from None
