"""The `timbrel` command.

Modules behind the verbs are imported when a verb runs, so that `timbrel --help` answers at once.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

try:
    import tyro

    import timbrel
    from timbrel.cli.data import check, prepare
    from timbrel.cli.doctor import doctor
    from timbrel.cli.embeddings import embed
    from timbrel.cli.experiments import train, tune
    from timbrel.cli.mix import mix
    from timbrel.cli.overview import list_
    from timbrel.cli.results import evaluate, export, predict, report
    from timbrel.errors import find_user_error, one_line, unknown_name
    from timbrel.safety import without_secrets
    from timbrel.scratch import scratch
except KeyboardInterrupt:  # importing takes a moment
    print("\ntimbrel: interrupted.", file=sys.stderr)
    sys.exit(130)

VERBS: dict[str, Callable[..., Any]] = {
    "check": check,
    "prepare": prepare,
    "mix": mix,
    "embed": embed,
    "train": train,
    "tune": tune,
    "evaluate": evaluate,
    "predict": predict,
    "export": export,
    "report": report,
    "list": list_,
    "doctor": doctor,
}

USAGE = """Timbrel: experiments on who plays what in music.

A first study, start to end:

    timbrel prepare house_band --library library
    timbrel tune transfer_modes --library library --preset small
    mlflow ui

Verbs (`timbrel VERB --help` says more):
"""


def usage() -> str:
    """Return what `timbrel --help` prints: each verb with the first line of its docstring."""
    lines = [f"    {verb:<10} {(function.__doc__ or '').splitlines()[0]}" for verb, function in VERBS.items()]
    return "\n".join([USAGE, *lines])


def main(arguments: list[str] | None = None) -> None:
    """Run the verb that the command line names; exit 2 with one sentence on an error of the user's."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if not arguments or arguments[0] in ("-h", "--help"):
            print(usage())
            sys.exit(0 if arguments else 2)
        if arguments[0] == "--version":
            print(timbrel.__version__)
            sys.exit(0)
        verb, *rest = arguments
        if verb not in VERBS:
            raise unknown_name("verb", verb, VERBS)
        with scratch():
            tyro.cli(VERBS[verb], prog=f"timbrel {verb}", args=rest, config=(tyro.conf.FlagCreatePairsOff,))
    except BaseException as error:
        cause = find_user_error(error)
        if cause is not None:
            print(f"timbrel: {one_line(without_secrets(str(cause)))}", file=sys.stderr)
            sys.exit(2)
        if isinstance(error, KeyboardInterrupt):
            remedy = f"; {error}" if str(error) else ""
            print(f"\ntimbrel: interrupted{remedy}.", file=sys.stderr)
            sys.exit(130)
        if isinstance(error, BrokenPipeError):  # `timbrel list runs | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        raise
