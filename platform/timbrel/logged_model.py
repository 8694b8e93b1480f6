"""A trained model as MLflow knows it: loaded by this module from data alone, so no code lies in the artifact.

::

    model = mlflow.pyfunc.load_model(f"runs:/{run_id}/model")
    model.predict(waveforms)  # float32 (batch, sample) -> a DataFrame, a row an example, a column a class
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import timbrel
from timbrel.errors import UserError
from timbrel.tracking import Tracker
from timbrel.trained import DATA, TrainedModel


def save_logged_model(trained: TrainedModel, folder: Path) -> None:
    """Write a trained model as an MLflow model, with signature and example, into a new ``folder``."""
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, Schema, TensorSpec

    shape = trained.input_shape
    signature = ModelSignature(
        inputs=Schema([TensorSpec(np.dtype("float32"), (-1, *shape))]),
        outputs=Schema([ColSpec("double", name) for name in trained.classes]),
    )
    data = trained.save(folder.parent / Path(DATA).name)
    mlflow.pyfunc.save_model(
        folder,
        loader_module="timbrel.logged_model",
        data_path=str(data),
        signature=signature,
        input_example=np.zeros((1, *shape), dtype=np.float32),
        pip_requirements=[f"timbrel=={timbrel.__version__}"],
    )


class LoggedModel:
    """What ``mlflow.pyfunc.load_model`` wraps."""

    def __init__(self, trained: TrainedModel) -> None:
        self.trained = trained

    def predict(self, waveforms: np.ndarray, params: Any = None) -> pd.DataFrame:
        """Return the probability of each class in each clip.

        Args:
            waveforms: mono, at the model's ``mixing.sample_rate`` and of its ``mixing.seconds``: ``(batch, sample)``;
                for models that hear embeddings, those of clips: ``(batch, time, dimension)``.
            params: none are known; MLflow passes it.

        Raises:
            UserError: another shape, or samples that are not finite.
        """
        clips = np.asarray(waveforms, dtype=np.float32)
        trained, shape = self.trained, self.trained.input_shape
        if clips.shape[1:] != shape:
            if trained.task.hears_embeddings(trained.config):
                raise UserError(
                    f"the model takes embeddings '{trained.config.taught_by.name}' of shape {('batch', *shape)}, not "
                    f"{clips.shape}: `timbrel embed` makes them."
                )
            raise UserError(
                f"the model takes waveforms (batch, {shape[0]}) at {trained.config.mixing.sample_rate} Hz, "
                f"not {clips.shape}: cut or resample them."
            )
        if not np.isfinite(clips).all():
            raise UserError("the clips hold NaN or infinite values: mend or leave them out.")
        rows = [row.astype(np.float64) for row in self.trained.probabilities(clips)]
        return pd.DataFrame(rows, columns=list(self.trained.classes))


def load_model(source: str, tracking_uri: str = "") -> LoggedModel:
    """Load a model from a folder, or by the id of its run, without asking its ``MLmodel`` what to import.

    MLflow's own ``load_model`` imports the module that ``MLmodel`` names, from the artifact if it says so. What Timbrel
    logs names this module and holds no code; of a model that others could write to, only they know.

    Raises:
        UserError: there is no such model, or a file of it is damaged or holds more than data.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return LoggedModel(TrainedModel.load(folder))
    with Tracker(tracking_uri).artifacts(source, "model") as downloaded:
        return LoggedModel(TrainedModel.load(downloaded))


def _load_pyfunc(path: str) -> LoggedModel:
    """Load the model: the function that MLflow looks for in a loader module."""
    return LoggedModel(TrainedModel.load(Path(path)))
