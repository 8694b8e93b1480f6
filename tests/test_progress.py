"""The line that says how far a search is."""

import io
import math
import re

import pytest

from timbrel.progress import EVERY_S, Progress, duration


class Clock:
    """Goes on when it is told to."""

    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shown():
    return io.StringIO()


@pytest.fixture
def study(clock, shown):
    return Progress("multi_instrument", 3, 4, "valid/f1_macro", "max", shown, clock)


def test_before_anything_is_known(study):
    study.started("a")
    assert study.words() == "0 of 3 trials done, 1 running"
    assert math.isnan(study.seconds_left)


def test_trials_done_running_best_and_time_left(study, clock):
    study.started("a")
    study.started("b")
    clock.now += 60
    study.trained("a", 1, 0.5)
    study.trained("b", 1, 0.4)
    assert study.words() == "0 of 3 trials done, 2 running, best valid/f1_macro 0.500, about 5 min left"
    clock.now += 60
    for epoch in (2, 3, 4, 4):  # the last report repeats the last epoch
        study.trained("a", epoch, 0.3)
    study.ended("a")
    assert study.done == 5
    assert study.seconds_left == 120 / 5 * 7
    assert study.words() == "1 of 3 trials done, 1 running, best valid/f1_macro 0.500, about 3 min left"


def test_the_best_is_the_lowest_where_less_is_better(clock, shown):
    study = Progress("tagging", 2, 3, "valid/loss", "min", shown, clock)
    for loss in (0.7, 0.5, math.nan, None, 0.6):
        study.judged(loss)
    assert study.best == 0.5


def test_a_trial_that_is_stopped_early_has_no_epochs_left(study, clock):
    study.started("a")
    clock.now += 10
    study.trained("a", 1, 0.5)
    study.ended("a")
    assert study.done == 4
    assert study.seconds_left == 10 * 8


def test_failed_trials_are_counted_apart_until_they_are_tried_again(study):
    study.started("a")
    study.ended("a", failed=True)
    assert study.words() == "0 of 3 trials done, 0 running, 1 failed"
    study.started("a")
    assert study.words() == "0 of 3 trials done, 1 running"


def test_what_was_done_before_an_interruption_does_not_count_as_time(study, clock):
    study.judged(0.9)
    study.ended("a")
    study.started("b")
    clock.now += 30
    study.trained("b", 3, 0.1)  # from its checkpoint
    assert study.words() == "1 of 3 trials done, 1 running, best valid/f1_macro 0.900, about 2 min left"


def test_a_single_run_speaks_of_no_trials(clock, shown):
    run = Progress("tagging", 1, 2, "valid/roc_auc_macro", "max", shown, clock)
    run.started("a")
    clock.now += 50
    run.trained("a", 1, 0.75)
    assert run.words() == "best valid/roc_auc_macro 0.750, about 50 s left"
    run.trained("a", 2, 0.7)
    assert run.words() == "best valid/roc_auc_macro 0.750"


def test_without_a_terminal_there_is_a_line_now_and_then(study, clock, shown):
    study.started("a")
    for epoch in (1, 2, 3):
        clock.now += 1
        study.trained("a", epoch, 0.1 * epoch)
    clock.now += EVERY_S
    study.trained("a", 4, 0.4)
    study.ended("a")
    study.ended("a")
    study.close()
    study.close()
    lines = shown.getvalue().splitlines()
    assert lines == [
        "multi_instrument: 0/12 epochs, 0 of 3 trials done, 1 running",
        "multi_instrument: 4/12 epochs, 0 of 3 trials done, 1 running, best valid/f1_macro 0.400, about 66 s left",
        "multi_instrument: 4/12 epochs, 1 of 3 trials done, 0 running, best valid/f1_macro 0.400, about 66 s left",
    ]
    assert "\r" not in shown.getvalue()


def test_on_a_terminal_there_is_a_bar(clock):
    terminal = Terminal()
    study = Progress("multi_instrument", 3, 4, "valid/f1_macro", "max", terminal, clock)
    study.started("a")
    clock.now += 60
    study.trained("a", 1, 0.512)
    study.trained("a", 2, 0.3)
    study.close()
    last = re.split(r"[\r\n]", terminal.getvalue().rstrip())[-1]
    assert last.startswith("multi_instrument:  17%|███▎")
    assert last.rstrip().endswith(
        "| 2/12 epochs, 0 of 3 trials done, 1 running, best valid/f1_macro 0.512, about 5 min left"
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(12.4, "12 s"), (89.0, "89 s"), (100, "2 min"), (3600, "60 min"), (36_000, "10.0 h")]
)
def test_durations(seconds, text):
    assert duration(seconds) == text
