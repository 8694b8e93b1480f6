"""`timbrel train` and `timbrel tune`."""

from pathlib import Path
from typing import Annotated

import tyro

from timbrel.cli.arguments import (
    ConfigValues,
    LibraryDir,
    Mixers,
    Preset,
    ShareGb,
    Storage,
    TrackingUri,
    at_least,
    flat,
    make_config,
)
from timbrel.errors import UserError


def train(
    task: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TASK")],
    /,
    *,
    library: LibraryDir,
    preset: Preset = "paper",
    config: ConfigValues = (),
    seed: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
    from_run: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None,
    resume: bool = False,
    mixers: Mixers = 0,
    tracking_uri: TrackingUri = "",
    storage: Storage = Path("runs"),
) -> None:
    """Train one model, logged to MLflow with its thresholds and test figures.

    Pre-train a backbone, then fine-tune it:

        timbrel train tagging --library library --preset small
        timbrel train multi_instrument --library library --preset small \\
            --config transfer.mode=finetune transfer.checkpoint=RUN

    The run can be interrupted (Ctrl-C) and taken up again by the same command with --resume.

    Args:
        task: What to learn; `timbrel list tasks` shows all.
        seed: Short for --config seed=N.
        from_run: Start from the config of a logged run; --config changes it.
        resume: Go on with the interrupted run of this very command; without one, start anew.
    """
    from timbrel import config as configs
    from timbrel import registry
    from timbrel.experiment import train_once
    from timbrel.launch import Workplace
    from timbrel.library import Library
    from timbrel.tracking import Tracker

    at_least(0, mixers=mixers)
    chosen = registry.load("task", task)
    tracker = Tracker(tracking_uri)
    seeded = (*config, *(((f"seed={seed}",),) if seed is not None else ()))
    if from_run:
        logged = tracker.config(from_run, chosen)
        made = configs.with_values(logged, configs.assignments(flat(seeded)))
    else:
        made = make_config(chosen, preset, seeded)
    place = Workplace(Library.open(library), tracker, storage.absolute(), mixers)
    tracker.check()
    train_once(chosen, made, place, resume=resume)


def tune(
    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")],
    /,
    *,
    library: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help="Folder of the prepared library.")] = None,
    preset: Preset = "paper",
    config: ConfigValues = (),
    seeds: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N")] = (0,),
    samples: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
    from_run: Annotated[str | None, tyro.conf.arg(metavar="RUN")] = None,
    resume: bool = False,
    dry_run: bool = False,
    mixers: Mixers = 0,
    share_gb: ShareGb = 20.0,
    tracking_uri: TrackingUri = "",
    storage: Storage = Path("runs"),
) -> None:
    """Run a study: a search over config fields, one MLflow parent run with a child run for each trial.

    The three transfer modes, each with three seeds:

        timbrel tune transfer_modes --library library --preset small --seeds 0 1 2

    Where a probability becomes a decision, on the outputs of a finished run, without training:

        timbrel tune thresholds --from-run RUN

    Before it starts, it says how many trials there are and about how much time and disk they take. A field that
    --config gives a value is not varied. Ctrl-C leaves the study resumable: the same command with --resume keeps
    finished trials and goes on with the others.

    Args:
        study: What to vary; `timbrel list studies` shows all, `timbrel list studies STUDY` its search space.
        seeds: Run every combination with each of these seeds (a study with a search algorithm takes the first).
        samples: Trials of a study with a search algorithm; default: the study's own number.
        from_run: The finished run whose outputs a study of decision rules judges.
        dry_run: Only say what the study would cost.
        resume: Go on with the interrupted study of this very command; without one, start anew.
    """
    from timbrel import config as configs
    from timbrel import registry
    from timbrel.experiment import run_rules, run_study
    from timbrel.launch import Workplace
    from timbrel.library import Library
    from timbrel.tracking import Tracker

    if not seeds:
        raise UserError("--seeds takes at least one number, such as `--seeds 0 1 2`.")
    at_least(0, mixers=mixers, seeds=min(seeds))
    at_least(1, samples=samples)
    if share_gb < 0:
        raise UserError(f"--share-gb {share_gb:g}: must be at least 0.")
    chosen = registry.load("study", study)
    task = registry.load("task", chosen.task)
    given = configs.assignments(flat(config))
    for path in sorted(set(given) & set(chosen.space)):
        print(f"{path} is {given[path]} as you say, and not varied")
    chosen = chosen.without(given)
    tracker = Tracker(tracking_uri)
    if not chosen.retrains:
        if from_run is None:
            raise UserError(
                f"study {study} judges the outputs of a finished run: say which by --from-run RUN "
                "(`timbrel list runs` shows them)."
            )
        tracker.check()
        run_rules(chosen, task, from_run, given, tracker, storage.absolute())
        return
    if from_run is not None:
        raise UserError(f"study {study} trains its own runs: leave --from-run out.")
    if library is None:
        raise UserError(f"study {study} trains on a library: say which by --library DIR (`timbrel prepare` makes one).")
    made = make_config(task, preset, config, chosen.fixed)
    place = Workplace(Library.open(library), tracker, storage.absolute(), mixers, share_gb)
    tracker.check()
    run_study(chosen, task, made, place, preset=preset, seeds=seeds, samples=samples, resume=resume, dry_run=dry_run)
