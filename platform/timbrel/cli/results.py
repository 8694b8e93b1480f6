"""`timbrel evaluate`, `timbrel predict`, `timbrel export` and `timbrel report`."""

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import tyro

from timbrel.cli.arguments import ConfigValues, LibraryDir, Mixers, RunIds, TrackingUri, at_least, flat
from timbrel.errors import UserError


def evaluate(
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")],
    /,
    *,
    library: LibraryDir,
    config: ConfigValues = (),
    mixers: Mixers = 0,
    tracking_uri: TrackingUri = "",
) -> None:
    """Judge a trained model on the test split of a library, at the thresholds chosen when it was trained.

    On the library that it was trained on, or on another:

        timbrel evaluate RUN --library library
        timbrel evaluate RUN --library other_library --config evaluation.test_examples=480

    The figures are logged to MLflow as a run of their own, beside the run that was evaluated.

    Args:
        run: MLflow run id of a finished run; `timbrel list runs` shows them.
    """
    from timbrel import config as configs
    from timbrel.evaluation import evaluate_run
    from timbrel.tracking import Tracker

    at_least(0, mixers=mixers)
    evaluate_run(run, library, configs.assignments(flat(config)), Tracker(tracking_uri), mixers)


def predict(
    files: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="FILE")],
    /,
    *,
    run: Annotated[str, tyro.conf.arg(metavar="RUN")],
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None,
    config: ConfigValues = (),
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("predictions"),
    tracking_uri: TrackingUri = "",
) -> None:
    """Say who plays in recordings: probabilities for each second, decisions, and a picture.

    Several files at once:

        timbrel predict song.wav other.flac --run RUN --out predictions

    The tags of a published tagger, from its authors' file of weights:

        timbrel predict song.mp3 --run best_model.pth --task tagging --config tags=mtg_jamendo

    For each file NAME it writes NAME.csv (a row a second, a column a class), NAME.json (the same, with
    thresholds, decisions and what is present in the file as a whole) and NAME.png. Where RAY_ADDRESS names a cluster,
    as in a submitted job, several files are spread over it.

    Args:
        files: Recordings: wav, flac, ogg, mp3, aiff; with ffmpeg installed m4a and others. Any rate, any channels.
        run: MLflow run id of a finished run, a folder that `timbrel export` wrote, or a file of published weights.
        task: For a file of weights: the task that knows the network.
        config: For a file of weights: what the file doesn't say. For a model that hears embeddings: the network that
            makes them, teacher.weights=FILE.
        out: Folder for what is written.
    """
    import contextlib
    import os

    from timbrel import config as configs
    from timbrel.predict import load_trained, predict_files
    from timbrel.runtime import ray_session
    from timbrel.tracking import Tracker

    if not files:
        raise UserError("which recordings? Name at least one file: timbrel predict song.wav --run RUN.")
    trained = load_trained(run, Tracker(tracking_uri), task, configs.assignments(flat(config)))
    with ray_session() if len(files) > 1 and os.environ.get("RAY_ADDRESS") else contextlib.nullcontext():
        predict_files(files, trained, out)


def export(
    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")],
    /,
    *,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    onnx: bool = False,
    task: Annotated[str | None, tyro.conf.arg(metavar="TASK")] = None,
    config: ConfigValues = (),
    tracking_uri: TrackingUri = "",
) -> None:
    """Take a trained model elsewhere: weights, config, thresholds and labels in one folder.

    The folder needs neither Ray nor MLflow; its README.md says how it is used:

        timbrel export RUN --out my_model --onnx
        timbrel predict song.wav --run my_model

    Args:
        run: MLflow run id of a finished run, a folder that holds a model, or a file of published weights.
        out: New folder for the model.
        onnx: Write the network, front end included, as model.onnx too.
        task: For a file of weights: the task that knows the network.
        config: For a file of weights: what the file doesn't say. For a model that hears embeddings: the network that
            makes them, teacher.weights=FILE.
    """
    from timbrel import config as configs
    from timbrel.export import export_model
    from timbrel.predict import load_trained
    from timbrel.tracking import Tracker

    trained = load_trained(run, Tracker(tracking_uri), task, configs.assignments(flat(config)))
    files = export_model(trained, out, onnx)
    print(f"{out}: {', '.join(file.name for file in files)}")


def report(
    runs: RunIds,
    /,
    *,
    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None,
    tracking_uri: TrackingUri = "",
) -> None:
    """Compare runs or studies: mean ± standard deviation over seeds, bootstrap intervals over songs, F1 per class.

    A study's trials, or runs of your choice; with pictures in a folder:

        timbrel report STUDY_RUN
        timbrel report RUN1 RUN2 RUN3 --out comparison

    The pictures are those that a study keeps in MLflow under `report`: the settings side by side (or a curve over a
    number that varies), F1 and accuracy per class, precision-recall curves, and what is missed where another class is
    falsely heard.

    Args:
        runs: MLflow run ids; a study's id stands for all of its trials.
        out: Write report.md and the pictures to this folder.
    """
    from timbrel.report import report as make_report
    from timbrel.tracking import Tracker

    if not runs:
        raise UserError("which runs? `timbrel list runs` shows their ids; a study's id stands for all of its trials.")
    if out is None:
        print(make_report(Tracker(tracking_uri), runs))
        return
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: --out takes a folder, for the report and its pictures.")
    with tempfile.TemporaryDirectory(prefix="timbrel-") as draft:  # nothing half done is left if this is interrupted
        print(make_report(Tracker(tracking_uri), runs, Path(draft)))
        try:
            out.mkdir(parents=True, exist_ok=True)
            for file in Path(draft).iterdir():
                shutil.copyfile(file, out / file.name)
        except OSError as error:
            raise UserError(f"{out} can't be written to ({error}): give --out another folder.") from None
    print(f"\nwritten to {out}: {', '.join(sorted(file.name for file in out.iterdir()))}")
