"""What trials save by sharing their mixtures: one study, with `--share-gb 0` and with room, alternating in one run.

    python benchmarks/shared_mixtures.py --library library

The study is transfer_modes of one seed, whose three trials train on the same stream: with sharing each mixture is
rendered once, without it three times. CPU time is that of the command and of every process that it started.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

POLL_S = 0.5


def run_study(arguments: argparse.Namespace, share_gb: float) -> dict[str, float]:
    """Run the study once and return wall time and CPU time in s, and the digest-like sum of its test figures."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("timbrel")),
            *("tune", "transfer_modes", "--library", str(arguments.library.absolute())),
            *("--preset", arguments.preset, "--share-gb", str(share_gb)),
            *("--storage", f"{folder}/runs", "--tracking-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--config", f"transfer.checkpoint={arguments.checkpoint}", *arguments.config),
        ]
        begin = time.perf_counter()
        process = psutil.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        spent: dict[tuple[int, float], float] = {}
        while process.poll() is None:
            for each in [process, *process.children(recursive=True)]:
                try:
                    times = each.cpu_times()
                    spent[each.pid, each.create_time()] = times.user + times.system
                except psutil.NoSuchProcess:
                    continue
            time.sleep(POLL_S)
        wall_s = time.perf_counter() - begin
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed")
        table = [line for line in process.stdout.read().splitlines() if line.startswith("| ")]
    return {"wall_s": wall_s, "cpu_s": sum(spent.values()), "table": "\n".join(table)}


def main() -> None:
    """Alternate between both settings and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=Path("library"), help="a prepared library")
    parser.add_argument("--checkpoint", required=True, help="weights for the modes frozen and finetune")
    parser.add_argument("--preset", default="published")
    parser.add_argument("--config", nargs="*", default=[], metavar="FIELD=VALUE", help="as of `timbrel tune`")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true", help="print the raw figures as JSON")
    arguments = parser.parse_args()
    rounds: dict[str, list[dict]] = {"apart": [], "shared": []}
    for _ in range(arguments.rounds):
        for name, share_gb in (("apart", 0.0), ("shared", 20.0)):
            rounds[name].append(run_study(arguments, share_gb))
            print(name, {key: round(rounds[name][-1][key]) for key in ("wall_s", "cpu_s")}, file=sys.stderr)
    tables = {each["table"] for runs in rounds.values() for each in runs}
    if len(tables) > 1:
        raise SystemExit("the results differ with and without sharing:\n" + "\n\n".join(tables))
    if arguments.json:
        print(json.dumps(rounds, indent=1))
    for key in ("wall_s", "cpu_s"):
        apart, shared = (statistics.median(each[key] for each in rounds[name]) for name in ("apart", "shared"))
        print(f"{key:<7} apart {apart:7.1f}  shared {shared:7.1f}  ratio {apart / shared:.2f}")
    print(f"the same test figures in all {2 * arguments.rounds} runs")


if __name__ == "__main__":
    main()
