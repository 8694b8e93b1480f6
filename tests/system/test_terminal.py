"""What a user sees of a run: how far it is, and none of Ray's own messages."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

from timbrel.tracking import Tracker

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

TIMBREL = str(Path(sys.executable).parent / "timbrel")
SIZE = [
    *("--preset", "smoke", "--config", "training.epochs=2", "model.width=2", "mixing.seconds=2.1"),
    *("evaluation.valid_examples=8", "evaluation.test_examples=8"),
]
RAYS_OWN = re.compile(r"\w+\.cc:\d+|\(raylet|\(pid=|\(\w+ pid=|INFO worker\.py|WARNING \w+\.py")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    prepare = [TIMBREL, "prepare", "house_band", "--library", "library", "--option", "songs=12", "seconds=12"]
    done = subprocess.run(prepare, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert not RAYS_OWN.search(done.stdout + done.stderr)
    return folder


def on_a_terminal(*arguments, cwd):
    """Run the command on a terminal of 160 columns, and return its exit status and all that it showed."""
    user, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    process = subprocess.Popen([TIMBREL, *arguments], cwd=cwd, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(user, 4096)
        except OSError:  # how Linux says that nobody writes to it any more
            break
        if not part:
            break
        shown += part
    os.close(user)
    return process.wait(timeout=60), shown.decode(errors="replace")


def test_a_run_on_a_terminal_and_a_study_without_one(work):
    status, shown = on_a_terminal("train", "multi_instrument", "--library", "library", *SIZE, cwd=work)
    assert status == 0, shown
    assert not RAYS_OWN.search(shown), shown
    assert re.search(r"multi_instrument: +50%\|█+ *\| 1/2 epochs, .*left", shown), shown
    assert re.search(r"2/2 epochs, best valid/roc_auc_macro 0\.\d{3}", shown), shown

    (run,) = Tracker(f"sqlite:///{work / 'mlflow.db'}").find({"timbrel.task": "multi_instrument"})
    tune = [TIMBREL, "tune", "thresholds", "--from-run", run.info.run_id]
    done = subprocess.run(tune, cwd=work, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert not RAYS_OWN.search(done.stdout + done.stderr), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("multi_instrument: ")]
    assert lines[0] == "multi_instrument: 0/3 epochs, 0 of 3 trials done, 1 running"
    assert re.fullmatch(
        r"multi_instrument: 3/3 epochs, 3 of 3 trials done, 0 running, best valid/f1_macro [01]\.\d{3}", lines[-1]
    )
    assert "\r" not in done.stderr
