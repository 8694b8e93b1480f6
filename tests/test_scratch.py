import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from timbrel.scratch import remove_abandoned, scratch

HOLD = """
import tempfile, time
from timbrel.scratch import scratch

with scratch():
    print(tempfile.mkdtemp(), flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_temporary_files_are_in_a_folder_that_goes_with_the_command(home):
    with scratch() as folder:
        assert folder.parent == home
        assert Path(tempfile.mkdtemp()).parent == folder
    assert tempfile.gettempdir() == str(home)
    assert list(home.iterdir()) == []


def test_it_goes_when_the_command_fails(home):
    with pytest.raises(ValueError, match="no"), scratch():
        raise ValueError("no")
    assert list(home.iterdir()) == []


def test_what_a_killed_command_left_is_removed_and_nothing_else(home):
    (home / "timbrel-of-somebody-else").mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(home)}
    )
    inside = Path(process.stdout.readline().strip())
    remove_abandoned(home)
    assert inside.is_dir(), "it was in use"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert inside.is_dir()
    with scratch():
        assert not inside.parent.exists()
    assert [path.name for path in home.iterdir()] == ["timbrel-of-somebody-else"]
