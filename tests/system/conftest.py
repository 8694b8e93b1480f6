"""Commands in processes of their own, to be interrupted and killed, and what they leave behind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from timbrel import registry
from timbrel.prepare import prepare
from timbrel.tracking import Tracker

# A shell has what it starts in the background ignore Ctrl-C, and so would all commands that are started and interrupted
# here.
signal.signal(signal.SIGINT, signal.default_int_handler)

SIZE = [
    "--preset",
    "smoke",
    "--config",
    "training.epochs=6",
    "model.width=2",
    "mixing.seconds=2.1",
    "evaluation.valid_examples=16",
    "evaluation.test_examples=16",
]


class Place:
    """A folder in which commands run, with a database, a storage folder and a temporary folder of its own.

    Every process that comes of its commands, those of a Ray that they start included, has the place's mark in its
    environment and is found by it in ``/proc``, whoever its parent is now.
    """

    def __init__(self, folder):
        self.folder = folder
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True)
        self.mark = uuid.uuid4().hex
        # Ray's sockets need short paths, so its files are not in the temporary folder.
        self.environment = {"TIMBREL_TEST": self.mark, "TMPDIR": str(self.temporary), "RAY_TMPDIR": "/tmp"}

    def start(self, *arguments, program="timbrel"):
        """Start `timbrel` with these arguments and return the process; it leads a process group."""
        return subprocess.Popen(
            [str(Path(sys.executable).parent / program), *map(str, arguments)],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments, program="timbrel", check=True):
        """Run `timbrel` to its end and return exit code and what it said."""
        return self.end(self.start(*arguments, program=program), check=check)

    def end(self, process, check=True):
        """Wait for a command's end and return exit code and what it said."""
        said, _ = process.communicate(timeout=600)
        assert not check or process.returncode == 0, said
        return process.returncode, said

    def wait(self, process, when, seconds=300):
        """Wait until ``when()`` is true, while the command runs."""
        deadline = time.monotonic() + seconds
        while not when():
            assert process.poll() is None, process.stdout.read()
            assert time.monotonic() < deadline, "it never came to this point"
            time.sleep(0.3)  # to ask a database takes CPU, too

    def interrupted(self, *arguments, when):
        """Start the command, send Ctrl-C once ``when()`` is true, and return its exit code and what it said."""
        process = self.start(*arguments)
        self.wait(process, when)
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does: all processes of the command are told
        return self.end(process, check=False)

    def processes(self, name=""):
        """Return the command lines, by process id, of the place's processes whose command line holds ``name``."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:  # it ended meanwhile, or is somebody else's
                continue
        return {pid: command for pid, command in found.items() if name in command}

    def kill(self, name="", most=None):
        """Kill with SIGKILL the place's processes whose command line holds ``name``; return how many."""
        victims = list(self.processes(name))[:most]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(pid, signal.SIGKILL)
        return len(victims)

    def start_node(self, number, *arguments):
        """Start a node of a Ray cluster, several of which are on this machine, each with an address of its own."""
        ports = ["--min-worker-port=0", "--max-worker-port=0", "--dashboard-agent-listen-port=0"]
        size = ["--object-store-memory=200000000", "--disable-usage-stats"]
        quiet = ["--include-dashboard=false"] if "--head" in arguments else []
        self.run("start", *arguments, f"--node-ip-address=127.0.0.{number}", *ports, *size, *quiet, program="ray")

    @property
    def database(self):
        return self.folder / "mlflow.db"

    @property
    def tracker(self):
        return Tracker(self.environment.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.database}"))

    def runs(self, **tags):
        """Return the MLflow runs with these tags, named without ``timbrel.``; none if there is no database yet."""
        if not self.database.exists():
            return []
        return self.tracker.find({f"timbrel.{name}": value for name, value in tags.items()})

    def steps(self, run):
        """Return the epochs that were logged to an MLflow run, in the order in which they were."""
        return [point.step for point in self.tracker.client.get_metric_history(run.info.run_id, "train/loss")]

    def epochs(self, **tags):
        """Return how many epochs are logged of the run that has most."""
        return max((len(self.steps(run)) for run in self.runs(**tags)), default=0)

    def artifacts(self, run):
        """Return the names of an MLflow run's artifacts."""
        return sorted(entry.path for entry in self.tracker.client.list_artifacts(run.info.run_id))

    def temporary_files(self):
        """Return what is left in the temporary and the storage folder of what should not outlast a command."""
        kinds = ("timbrel-*", "*.part", "*.claim", "*-failure.json")
        folders = [self.temporary, self.folder / "runs"]
        return sorted(str(path) for folder in folders for kind in kinds for path in folder.rglob(kind))


@pytest.fixture(scope="session")
def lasting_place(tmp_path_factory):
    """Make a place that several tests look at."""
    return lambda name: Place(tmp_path_factory.mktemp(name))


@pytest.fixture
def place(tmp_path):
    """Make a place in a folder of this name, and at the test's end kill what runs there."""
    made = []

    def make(name="place"):
        made.append(Place(tmp_path / name))
        return made[-1]

    yield make
    for each in made:
        each.kill()


@pytest.fixture(scope="session")
def song_library(tmp_path_factory):
    """A library of twelve songs of about 12 s by house_band."""
    root = tmp_path_factory.mktemp("songs") / "library"
    source = registry.load("source", "house_band")
    prepare(source, None, root, source.options_type(songs=12, seconds=12))
    return root


@pytest.fixture(scope="session")
def train(song_library):
    """The command of a training run that is as small as can be."""
    return ["train", "multi_instrument", "--library", song_library, *SIZE]


@pytest.fixture(scope="session")
def train_longer(train):
    """One that still has something to mix when its first epochs are over."""
    return [*train, "training.batches_per_epoch=12"]


@pytest.fixture(scope="session")
def tune(song_library):
    """The command of a study that is as small as can be."""
    return ["tune", "transfer_modes", "--library", song_library, *SIZE]


@pytest.fixture(scope="session")
def trained(lasting_place, train):
    """An undisturbed run."""
    here = lasting_place("trained")
    here.run(*train)
    return here


@pytest.fixture(scope="session")
def trained_longer(lasting_place, train_longer):
    here = lasting_place("trained_longer")
    here.run(*train_longer)
    return here


@pytest.fixture(scope="session")
def tuned(lasting_place, tune):
    """An undisturbed study."""
    here = lasting_place("tuned")
    here.run(*tune)
    return here
