"""VGGish: 128 bytes each 0.96 s, as AudioSet's and OpenMIC's are: principal components, whitened, in 8 bits.

Source: Hershey et al., "CNN architectures for large-scale audio classification" (ICASSP 2017), in the port
``torchvggish`` (Apache-2.0). The values are whole numbers from 0 to 255; EAsT uses them as (value - 128) / 256.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from timbrel.embeddings.teachers.network import (
    NetworkTeacher,
    Packaged,
    file_digest,
    given_weights,
    load_arrays,
    load_into,
    package,
)
from timbrel.embeddings.teachers.options import TeacherOptions
from timbrel.errors import UserError
from timbrel.tracking import Tracker

SAMPLE_RATE = 16_000
HOP_S = 0.96
WINDOW_S = 0.975
"""96 frames of 25 ms, 10 ms apart."""
DIMENSION = 128
FILE = "vggish-10086976.pth"
COMPONENTS = "vggish_pca_params-970ea276.pth"
WHERE = "the releases of harritaylor/torchvggish on GitHub"
INSTALL = "pip install 'torchvggish>=0.2'"


class VGGish(Packaged):
    """Windows of 0.975 s ``(batch, 15600)`` to whole numbers 0 to 255 ``(batch, 128)``."""

    def __init__(self, components: dict[str, Any] | None = None) -> None:
        super().__init__()
        with package("vggish", INSTALL):
            from torchvggish import torchvggish, vggish_input
        self.examples = vggish_input.waveform_to_examples
        self.network = torchvggish._vgg(postprocess=False)
        # Its constructor would download the components.
        self.postprocessor = object.__new__(torchvggish.Postprocessor)
        found = components or {"pca_eigen_vectors": torch.eye(DIMENSION), "pca_means": torch.zeros(DIMENSION)}
        matrix, means = (torch.as_tensor(found[name]).float() for name in ("pca_eigen_vectors", "pca_means"))
        self.register_buffer("matrix", matrix)
        self.register_buffer("means", means.reshape(-1, 1))

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the quantised principal components of what the network says of each window."""
        examples = [self.examples(window, SAMPLE_RATE, return_tensor=False) for window in windows.cpu().numpy()]
        heard = torch.from_numpy(np.concatenate(examples).astype(np.float32))[:, None].to(windows.device)
        self.postprocessor._pca_matrix, self.postprocessor._pca_means = self.matrix, self.means
        return self.postprocessor.postprocess(self.network(heard)).reshape(-1, DIMENSION)


def load(name: str, options: TeacherOptions, tracker: Tracker) -> NetworkTeacher:
    """Return VGGish with the authors' weights, and their principal components from the file beside them.

    Raises:
        UserError: the package or a file is missing, or a file is another.
    """
    VGGish()  # the package is asked for first
    file = given_weights(options.weights, name, FILE, WHERE)
    components = Path(file).with_name(COMPONENTS)
    if not components.is_file():
        raise UserError(f"{components} is missing: put {COMPONENTS} from {WHERE} beside {file.name}.")
    values = load_arrays(components)
    if [tuple(values.get(key, np.zeros(0)).shape) for key in ("pca_eigen_vectors",)] != [(DIMENSION, DIMENSION)]:
        raise UserError(f"{components} holds no principal components of VGGish: get it from {WHERE}.")
    network = VGGish(values)
    load_into(network.network, load_arrays(file), str(file), name)
    return teacher(network, file.name, file_digest(file, components))


def teacher(network: VGGish, weights: str, digest: str) -> NetworkTeacher:
    """Return the teacher of a network."""
    return NetworkTeacher(
        name="vggish",
        network=network.eval(),
        sample_rate=SAMPLE_RATE,
        dimension=DIMENSION,
        hop_s=HOP_S,
        window_s=WINDOW_S,
        weights=weights,
        digest=digest,
        whole=True,
        dtype="|u1",
    )
