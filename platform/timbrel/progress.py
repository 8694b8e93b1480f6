"""How far a search is, in one line: a bar on a terminal, elsewhere a line now and then.

::

    transfer_modes:  42%|████████▎           | 5/12 epochs, 1 of 3 trials done, 2 running, best valid/f1_macro 0.512,
    about 2 min left
"""

import math
import sys
import time
from collections.abc import Callable
from typing import TextIO

from tqdm import tqdm

EVERY_S = 30.0
"""Between two lines where there is no terminal, unless a trial has ended."""
BAR = "{desc}: {percentage:3.0f}%|{bar:20}| {n_fmt}/{total_fmt} epochs{postfix}"


class Progress:
    """Counts trials and epochs, keeps the best figure, and shows both."""

    def __init__(
        self,
        what: str,
        trials: int,
        epochs: int,
        metric: str,
        mode: str = "max",
        file: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self.trials = trials
        self.epochs = epochs
        """Of each trial."""
        self.metric = metric
        self.mode = mode
        self.best = math.nan
        self.file = file or sys.stderr
        self._clock = clock
        self._begun = clock()
        self._epoch: dict[str, int] = {}
        self._running: set[str] = set()
        self._ended: set[str] = set()
        self._failed: set[str] = set()
        self._trained = 0
        self._said_at = -math.inf
        self._said = ""
        self._bar: tqdm | None = None

    def started(self, trial: str) -> None:
        """Count a trial that begins, or goes on."""
        self._running.add(trial)
        self._failed.discard(trial)
        self.show()

    def trained(self, trial: str, epoch: int, figure: float | None) -> None:
        """Count an epoch of a trial, of whose figure the best is kept; epochs are numbered from 1."""
        if epoch > self._epoch.get(trial, 0):  # the last report repeats the last epoch
            self._trained += 1
        self._epoch[trial] = epoch
        self.judged(figure)
        self.show()

    def judged(self, figure: float | None) -> None:
        """Keep a figure if it is the best so far."""
        if figure is None or math.isnan(figure):
            return
        better = min if self.mode == "min" else max
        self.best = figure if math.isnan(self.best) else better(self.best, figure)

    def ended(self, trial: str, *, failed: bool = False) -> None:
        """Count a trial that is over, whether it went to its last epoch, was stopped early, or failed."""
        self._epoch[trial] = self.epochs
        self._running.discard(trial)
        known = self._failed if failed else self._ended
        if trial not in known:
            known.add(trial)
            self._said_at = -math.inf
        self.show()

    @property
    def done(self) -> int:
        """Epochs that are over, in all trials."""
        return min(sum(self._epoch.values()), self.trials * self.epochs)

    @property
    def seconds_left(self) -> float:
        """How long the rest takes at the pace so far, in s; NaN before the first epoch. Early stopping shortens it."""
        left = self.trials * self.epochs - self.done
        return (self._clock() - self._begun) / self._trained * left if self._trained else math.nan

    def words(self) -> str:
        """Return trials done, running and failed, the best figure, and the time left."""
        parts = []
        if self.trials > 1:
            parts += [f"{len(self._ended)} of {self.trials} trials done", f"{len(self._running)} running"]
        if self._failed:
            parts.append(f"{len(self._failed)} failed")
        if not math.isnan(self.best):
            parts.append(f"best {self.metric} {self.best:.3f}")
        if self.seconds_left > 0:
            parts.append(f"about {duration(self.seconds_left)} left")
        return ", ".join(parts)

    def show(self) -> None:
        """Draw the bar anew; where there is no terminal write a line, if it is time for one."""
        if self.file.isatty():
            if self._bar is None:
                total = self.trials * self.epochs
                self._bar = tqdm(total=total, desc=self.what, bar_format=BAR, file=self.file, dynamic_ncols=True)
            self._bar.set_postfix_str(self.words(), refresh=False)
            self._bar.n = self.done
            self._bar.refresh()
        elif self._clock() - self._said_at >= EVERY_S:
            self._say()

    def close(self) -> None:
        """End the bar, or say where it ended."""
        if self._bar is not None:
            self._bar.close()
        elif not self.file.isatty():
            self._say()

    def _say(self) -> None:
        line = f"{self.done}/{self.trials * self.epochs} epochs"
        line = f"{self.what}: " + ", ".join(filter(None, (line, self.words())))
        if line != self._said:
            print(line, file=self.file, flush=True)
        self._said, self._said_at = line, self._clock()


def duration(seconds: float) -> str:
    """Return a time for people, no more exact than an estimate is."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
