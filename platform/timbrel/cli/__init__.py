"""The `timbrel` command.

Modules behind the verbs are imported when a verb runs, so that `timbrel --help` answers at once.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

import tyro

from timbrel.cli.data import prepare
from timbrel.cli.experiments import train, tune
from timbrel.cli.overview import list_
from timbrel.cli.results import evaluate, predict, report
from timbrel.errors import find_user_error, unknown_name

VERBS: dict[str, Callable[..., Any]] = {
    "prepare": prepare,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "predict": predict,
    "report": report,
    "list": list_,
}

DESCRIPTION = """Timbrel: experiments on who plays what in music.

A first study, start to end:

    timbrel prepare house_band --library library
    timbrel tune transfer_modes --library library --preset small
    mlflow ui
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the verb that the command line names; exit 2 with one sentence on an error of the user's."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments and not arguments[0].startswith("-") and arguments[0] not in VERBS:
            raise unknown_name("verb", arguments[0], VERBS)
        tyro.extras.subcommand_cli_from_dict(
            VERBS,
            prog="timbrel",
            description=DESCRIPTION,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except BaseException as error:
        cause = find_user_error(error)
        if cause is not None:
            print(f"timbrel: {cause}", file=sys.stderr)
            sys.exit(2)
        if isinstance(error, KeyboardInterrupt):
            remedy = f"; {error}" if str(error) else ""
            print(f"\ntimbrel: interrupted{remedy}.", file=sys.stderr)
            sys.exit(130)
        if isinstance(error, BrokenPipeError):  # `timbrel list runs | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        raise
