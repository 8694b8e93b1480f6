"""VGGish: 128 bytes each 0.96 s, as AudioSet's and OpenMIC's are: principal components, whitened, in 8 bits.

Source: Hershey et al., "CNN architectures for large-scale audio classification" (ICASSP 2017), in the port
``torchvggish`` (Apache-2.0). The values are whole numbers from 0 to 255; EAsT uses them as (value - 128) / 256.
"""

from pathlib import Path

import numpy as np
import torch

from timbrel.embeddings.teachers.packaged import Packaged, load_arrays, package
from timbrel.errors import UserError

COMPONENTS = "vggish_pca_params-970ea276.pth"


class VGGish(Packaged):
    """Windows of 0.975 s ``(batch, 15600)``, 96 frames of 25 ms, to whole numbers 0 to 255 ``(batch, 128)``."""

    name = "vggish"
    sample_rate = 16_000
    dimension = 128
    hop_s = 0.96
    window_s = 0.975
    dtype = "|u1"
    file = "vggish-10086976.pth"
    where = "the releases of harritaylor/torchvggish on GitHub"

    def __init__(self) -> None:
        super().__init__()
        with package(self.name):
            from torchvggish import torchvggish, vggish_input
        self.examples = vggish_input.waveform_to_examples
        self.network = torchvggish._vgg(postprocess=False)
        # Its constructor would download the components.
        self.postprocessor = object.__new__(torchvggish.Postprocessor)
        self.register_buffer("matrix", torch.eye(self.dimension))
        self.register_buffer("means", torch.zeros(self.dimension, 1))

    def take(self, file: Path) -> tuple[Path, ...]:
        """Take over the authors' weights, and their principal components from the file beside them.

        Raises:
            UserError: a file is missing, or is another.
        """
        components = file.with_name(COMPONENTS)
        if not components.is_file():
            raise UserError(f"{components} is missing: put {COMPONENTS} from {self.where} beside {file.name}.")
        found = load_arrays(components)
        try:
            matrix, means = (torch.as_tensor(found[name]) for name in ("pca_eigen_vectors", "pca_means"))
            self.load_state_dict({"matrix": matrix, "means": means.reshape(-1, 1)}, strict=False)
        except (KeyError, RuntimeError, TypeError):
            raise UserError(
                f"{components} holds no principal components of VGGish: get it from {self.where}."
            ) from None
        return *super().take(file), components

    def forward(self, windows: torch.Tensor) -> torch.Tensor:
        """Return the quantised principal components of what the network says of each window."""
        examples = [self.examples(window, self.sample_rate, return_tensor=False) for window in windows.cpu().numpy()]
        heard = torch.from_numpy(np.concatenate(examples).astype(np.float32))[:, None].to(windows.device)
        self.postprocessor._pca_matrix, self.postprocessor._pca_means = self.matrix, self.means
        return self.postprocessor.postprocess(self.network(heard)).reshape(-1, self.dimension)


load = VGGish.load
