"""`timbrel mix`."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from timbrel.cli.arguments import ConfigValues, LibraryDir, Preset, at_least, make_config


def mix(
    *,
    library: LibraryDir,
    out: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    count: Annotated[int, tyro.conf.arg(metavar="N", aliases=["-n"])] = 20,
    start: Annotated[int, tyro.conf.arg(metavar="N")] = 0,
    split: Literal["train", "valid", "test"] = "train",
    recipe: Annotated[Literal["training", "evaluation"] | None, tyro.conf.arg(metavar="training|evaluation")] = None,
    task: Annotated[str, tyro.conf.arg(metavar="TASK")] = "multi_instrument",
    preset: Preset = "paper",
    config: ConfigValues = (),
    seed: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
) -> None:
    """Hear mixtures before anyone trains on them: WAV files with stems and labels, and a page to listen and look.

    The first twenty of a training run, and what its model is tested on:

        timbrel mix --library library --out mixtures
        timbrel mix --library library --out tested --split test

    Another recipe, and the mixtures of a run's second epoch:

        timbrel mix --library library --out musical --config mixing.p_musical=1
        timbrel mix --library library --out second --preset small --seed 1 --start 320 -n 40

    They are, sample for sample, those that a run with this task, preset, config and seed is given. Open index.html of
    the folder in a browser; mixtures.json says the same in full, for a program.

    Args:
        out: New folder for what is written.
        count: How many mixtures.
        start: Number of the first; epoch e of a run, from 0, begins at e times its examples an epoch.
        split: Whose songs.
        recipe: training: the config's `mixing`; evaluation: what a model is judged on, musical and without effects,
            or windows of whole songs if the task is judged on those. Default: that which the split is used with.
        task: Whose classes; `timbrel list tasks` shows all.
        seed: Short for --config seed=N, or evaluation.seed=N with the recipe for evaluation.
    """
    from timbrel import registry
    from timbrel.errors import UserError
    from timbrel.library import Library
    from timbrel.listen.folder import Request, write_mixtures
    from timbrel.mixing.index import build_index, evaluation_index
    from timbrel.settings import evaluation_recipe

    at_least(1, count=count)
    at_least(0, start=start)
    training = split == "train" if recipe is None else recipe == "training"
    field = "seed" if training else "evaluation.seed"
    chosen = registry.load("task", task)
    made = make_config(chosen, preset, (*config, *(((f"{field}={seed}",),) if seed is not None else ())))
    opened = Library.open(library)
    index = (build_index if training else evaluation_index)(opened, split, chosen, made)
    there = index.examples(start + count)  # of windows of whole songs there may be fewer
    if start >= there:
        raise UserError(f"--start {start}: the split '{split}' of {library} has {there} windows, numbered from 0.")
    count = there - start
    request = Request(
        task=chosen.name,
        classes=chosen.classes(made),
        split=split,
        recipe_name="training" if training else "evaluation",
        recipe=made.mixing if training else evaluation_recipe(made),
        seed=made.seed if training else made.evaluation.seed,
        start=start,
        count=count,
    )
    write_mixtures(request, index, opened.digest(made.data.all_datasets), out)
    print(f"{out}: {count} mixture{'s' if count > 1 else ''} with stems; open {out / 'index.html'} in a browser")
