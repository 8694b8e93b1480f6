"""`timbrel doctor`."""

import json as json_format
import shutil
import sys
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from timbrel.cli.arguments import Storage, TrackingUri

if TYPE_CHECKING:
    from timbrel.doctor import Finding

INDENT = " " * 19
"""Below the text of a finding."""


def doctor(
    *,
    library: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help="Folder of a prepared library.")] = None,
    storage: Storage = Path("runs"),
    tracking_uri: TrackingUri = "",
    json: bool = False,
) -> None:
    """Say whether a run would find what it needs here: versions, GPUs, Ray, MLflow, disks, a library.

    Before a first study on a machine, and when something does not work:

        timbrel doctor --library library

    On a cluster, from where the study will be started:

        RAY_ADDRESS=auto timbrel doctor --library /mnt/timbrel/library --storage /mnt/timbrel/runs

    Nothing is started or changed. Each line is ok, a warning (it works, but not as well as it could) or a problem (a
    run would end with an error), with what to do about it. With a problem the exit status is 1.

    Args:
        json: Print it for a program: a list with topic, state, text and remedy of each line.
    """
    from timbrel.doctor import examine

    findings = []
    for found in examine(library, storage, tracking_uri):
        findings.append(found)
        if not json:
            print("\n".join(_lines(found)), flush=True)
    if json:
        print(json_format.dumps([asdict(found) for found in findings], indent=2))
    if any(found.state == "problem" for found in findings):
        sys.exit(1)


def _lines(found: "Finding") -> list[str]:
    """Return a finding as lines that fit the terminal, those after the first set in."""
    width = max(60, shutil.get_terminal_size().columns) - len(INDENT)
    texts = [found.text, *([f"-> {found.remedy}"] if found.remedy else [])]
    lines = [line for text in texts for line in textwrap.wrap(text, width, break_long_words=False)]
    return [f"{found.state:<8} {found.topic:<9} {lines[0]}", *(INDENT + line for line in lines[1:])]
