"""The published taggers as teachers: what their last linear layer hears.

Musicnn: 200 numbers, after its hidden layer, batch norm and ReLU. CRNN: 32, the recurrent layer's last output. FCN: 64.
"""

from pathlib import Path

from timbrel.embeddings.teachers.network import NetworkTeacher, Penultimate, digest_of, given_weights, last_linear
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.models.backbones import PUBLISHED
from timbrel.models.front_end import LogMel, LogMelConfig
from timbrel.models.published import BANDS, SAMPLE_RATE, published_head, published_net
from timbrel.models.transfer import Classifier, load_backbone
from timbrel.tracking import Tracker
from timbrel.trained import load_weights

HOP_S = 1.0
WHERE = "minzwon/sota-music-tagging-models on GitHub (models/DATA_SET/NET/best_model.pth)"


def load(name: str, options: TeacherOptions, tracker: Tracker) -> NetworkTeacher:
    """Return one of the published taggers, from a file in its authors' layout.

    Raises:
        UserError: no such file, or it is of another network, or the windows are too short for it.
    """
    file = given_weights(options.weights, name, "best_model.pth", WHERE)
    weights = load_weights(file)
    net = published_net(weights)
    if net != name:
        raise UserError(f"{file} holds the weights of {net}, not of {name}: name the teacher after its weights.")
    layer = "dense2.bias" if net == "musicnn" else "dense.bias"
    if layer not in weights:
        raise UserError(f"{file} has no classifier ('{layer}' is missing): give the authors' whole file.")
    backbone = PUBLISHED[net]()
    front_end = LogMelConfig(bands=BANDS)
    model = Classifier(LogMel(front_end, SAMPLE_RATE), backbone, published_head(backbone, len(weights[layer])))
    load_backbone(model, weights, str(file), head=True)
    window_s = options.window_s or float(backbone.seconds)  # type: ignore[arg-type]  # nn.Module hides what it is
    least: int = backbone.least_frames  # type: ignore[assignment]  # likewise
    if front_end.frames(round(window_s * SAMPLE_RATE)) < least:
        raise UserError(
            f"--window-s {window_s:g} is too short for {name}, which needs {least * front_end.hop / SAMPLE_RATE:.2f} s."
        )
    last = last_linear(model.head)
    assert last is not None
    return NetworkTeacher(
        name=name,
        network=Penultimate(model, last).eval(),
        sample_rate=SAMPLE_RATE,
        dimension=last.in_features,
        hop_s=options.hop_s or HOP_S,
        window_s=window_s,
        weights=Path(file).name,
        digest=digest_of(weights),
        settings={"window_s": window_s},
        least_samples=(least - 1) * front_end.hop,
    )
