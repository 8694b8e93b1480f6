"""`timbrel evaluate`, `timbrel predict` and `timbrel report`."""

import contextlib
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
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")] = Path("predictions"),
    tracking_uri: TrackingUri = "",
) -> None:
    """Say who plays in recordings: probabilities for each second, decisions, and a picture.

    Several files at once:

        timbrel predict song.wav other.flac --run RUN --out predictions

    For each file NAME it writes NAME.csv (a row a second, a column a class), NAME.json (the same, with
    thresholds, decisions and what is present in the file as a whole) and NAME.png.

    Args:
        files: Recordings that libsndfile reads: wav, flac, ogg, mp3, aiff; any rate, any number of channels.
        run: MLflow run id of a finished run, or a folder that holds its `model` artifact.
        out: Folder for what is written.
    """
    from timbrel.predict import predict_files
    from timbrel.tracking import Tracker

    predict_files(files, run, out, Tracker(tracking_uri))


def report(
    runs: RunIds,
    /,
    *,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    tracking_uri: TrackingUri = "",
) -> None:
    """Compare runs or studies as Markdown: mean ± standard deviation over seeds, and F1 per class.

    A study's trials, or runs of your choice:

        timbrel report STUDY_RUN
        timbrel report RUN1 RUN2 RUN3 --out comparison.md

    Args:
        runs: MLflow run ids; a study's id stands for all of its trials.
        out: Write the report to this file too.
    """
    from timbrel.report import report as make_report
    from timbrel.tracking import Tracker

    if not runs:
        raise UserError("which runs? `timbrel list runs` shows their ids; a study's id stands for all of its trials.")
    text = make_report(Tracker(tracking_uri), runs)
    print(text)
    if out:
        draft = out.with_name(f".{out.name}.draft")
        try:
            draft.write_text(text + "\n", encoding="utf-8")
            draft.replace(out)
        except OSError as error:
            raise UserError(f"{out} can't be written ({error.strerror}): give --out another file.") from None
        finally:
            with contextlib.suppress(OSError):
                draft.unlink()
