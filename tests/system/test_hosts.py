"""`cluster.local.yaml` on real hosts: `ray up`, jobs from outside, results from the MLflow server, `ray down`.

The hosts are namespaces of this machine's: each has a network with an address of its own on a bridge, a process table,
a host name, a home, a /tmp/ray, a /dev/shm, and an sshd as its first process. The client, from which all commands are
given, is a third network. Everything ends with the first process of each, whatever happens to the tests, and the
machine's own network is never touched.

What they share with this machine is the rest of the file system. So a temporary folder is the file system that all of a
cluster mount, and the Timbrel "installed" on the hosts is the one of the environment that runs the tests: the lines of
`setup_commands` that call pip are replaced by a check that it is there. All other lines are those of the file.
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
ENVIRONMENT = Path(sys.prefix)
TOOLS = ("ip", "sshd", "ssh", "ssh-keygen", "rsync", "curl", "git", "unshare", "nsenter", "setpriv")
SEARCHED = os.environ["PATH"] + ":/usr/sbin:/sbin"
MISSING = [name for name in TOOLS if not shutil.which(name, path=SEARCHED)]

pytestmark = [
    pytest.mark.system,
    pytest.mark.hosts,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces are for root alone"),
    pytest.mark.skipif(bool(MISSING), reason=f"to make hosts takes {', '.join(MISSING)}"),
]

CLIENT, HEAD, WORKER = "198.18.0.1", "198.18.0.11", "198.18.0.12"
DASHBOARD, MLFLOW = 8265, 5000
MARK = "submitted"
"""The MLflow experiment of the code that is submitted; that of the code on the nodes has another name."""
SONGS = ("songs=12", "seconds=12")
SIZE = (
    "--preset", "smoke", "--config", "training.epochs=1", "model.width=2", "mixing.seconds=2.1",
    "evaluation.valid_examples=16", "evaluation.test_examples=16",
)  # fmt: skip
RUNTIME_ENV = '{"env_vars": {"PYTHONPATH": "platform"}}'

BOOT = """
set -eu
cd "$1"
until ip link show eth0 > /dev/null 2>&1; do sleep 0.1; done
ip link set lo up
ip address add "$2/24" dev eth0
ip link set eth0 up
ip route add default via "$3"  # nothing is there; Ray asks by which address it would be reached
hostname "$(basename "$1")"
for file in passwd shadow hosts resolv.conf; do mount --bind "$file" "/etc/$file"; done
mkdir -p /tmp/ray
mount --bind ray /tmp/ray
mount -t tmpfs tmpfs /dev/shm
mount -t tmpfs tmpfs /run
mkdir /run/sshd
exec "$(command -v sshd)" -D -e -f sshd_config
"""
"""The first process of a host: folder, address, gateway."""

SSHD = """
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {key}.pub
StrictModes no
PasswordAuthentication no
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PidFile none
"""

LOGGED = f"""
import json, sys
from mlflow import MlflowClient
client = MlflowClient("http://127.0.0.1:{MLFLOW}")
experiment = client.get_experiment_by_name(sys.argv[1])
runs = client.search_runs([experiment.experiment_id]) if experiment else []
print(json.dumps([
    {{
        "id": run.info.run_id,
        "status": run.info.status,
        "kind": run.data.tags["timbrel.kind"],
        "mode": run.data.params.get("transfer.mode"),
        "loss": run.data.metrics.get("test/loss"),
    }}
    for run in runs
]))
"""
"""What is logged to an experiment, asked from the client's network."""


def in_network(process, *command):
    return ["nsenter", f"--net=/proc/{process.pid}/ns/net", "--", *command]


def until(what, met, seconds=120):
    """Wait for a condition, and return what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := met()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.5)
    return found


def network_of(process):
    return os.readlink(f"/proc/{process.pid}/ns/net")


def processes_in(networks):
    """Return the command line of each process in one of the networks, by its number."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if os.readlink(folder / "ns/net") in networks:
                found[int(folder.name)] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


class Lan:
    """A client and its hosts."""

    def __init__(self, folder, ending):
        self.folder, self.ending, self.networks = folder, ending, {}
        self.ending.callback(self.leave_nothing)
        self.key = folder / "key"
        for kind in (self.key, folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", kind], check=True)
        (folder / "home").mkdir()
        kept = ("PATH", "LANG", "TERM", "OMP_NUM_THREADS")
        self.environment = {name: os.environ[name] for name in kept if name in os.environ} | {
            "HOME": str(folder / "home"),
            "PATH": f"{ENVIRONMENT / 'bin'}:{SEARCHED}",
            "RAY_AUTH_MODE": "token",
            "RAY_TMPDIR": str(folder),
            "COLUMNS": "200",
        }
        self.client = self.start("unshare", "--net", "sleep", "infinity")
        self.own_network("client", self.client)
        for command in (
            "ip link set lo up",
            "ip link add lan type bridge",
            f"ip address add {CLIENT}/24 dev lan",
            "ip link set lan up",
        ):
            self.run(*command.split())

    def start(self, *command, **options):
        """Start a process that ends with the tests, even if these are killed."""
        process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], env=self.environment, **options)
        self.ending.callback(process.wait)
        self.ending.callback(process.kill)
        return process

    def own_network(self, name, process):
        until(f"{name}'s network", lambda: network_of(process) != os.readlink("/proc/self/ns/net"), 10)
        self.networks[name] = network_of(process)

    def leave_nothing(self):
        """After the first process of each: end connections that the client's SSH keeps, and see that all is gone."""
        for number in processes_in({self.networks.get("client")}):
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.kill(number, signal.SIGKILL)
        until("the end of all processes", lambda: not processes_in(set(self.networks.values())), 30)

    def running(self, name):
        """Return the command lines of a host's processes, as one text."""
        return "\n".join(processes_in({self.networks[name]}).values())

    def host(self, name, address):
        """Start a host and wait for its sshd."""
        folder = self.folder / name
        (folder / "ray").mkdir(parents=True)
        home = folder / "home"
        home.mkdir()
        (home / ".bashrc").touch()
        (home / "timbrel-env").symlink_to(ENVIRONMENT)
        shutil.copy(self.folder / "host_key", folder / "host_key")
        users = Path("/etc/passwd").read_text()
        (folder / "passwd").write_text(re.sub(r"^root:.*", f"root:x:0:0:root:{home}:/bin/bash", users, flags=re.M))
        (folder / "shadow").write_text("root:*:20000:0:99999:7:::\nsshd:!:20000::::::\n")
        (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {name}\n")
        (folder / "resolv.conf").write_text("")
        (folder / "sshd_config").write_text(SSHD.format(address=address, folder=folder, key=self.key))
        isolated = ("--net", "--mount", "--pid", "--uts", "--fork", "--kill-child", "--mount-proc")
        log = (folder / "sshd.log").open("w")
        booting = ["unshare", *isolated, "bash", "-c", BOOT, "boot", str(folder), address, CLIENT]
        process = self.start(*booting, stdout=log, stderr=log)
        self.own_network(name, process)
        self.run("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(process.pid))
        self.run("ip", "link", "set", name, "master", "lan", "up")
        until(f"sshd on {name}", lambda: self.open(address, 22), 30)

    def run(self, *command, cwd=None, check=True, timeout=300):
        """Run a command on the client; return what it said."""
        done = subprocess.run(
            in_network(self.client, *map(str, command)),
            cwd=cwd, env=self.environment, check=False, timeout=timeout, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{command}: {done.stdout}"
        return done

    def forward(self, tree, port):
        """Keep a port of the head's loopback open on the client's, as `ray dashboard` does for any port."""
        log = (self.folder / f"forward-{port}.log").open("w")
        words = ("ray", "dashboard", "cluster.local.yaml", "--port", str(port), "--remote-port", str(port))
        self.start(*in_network(self.client, *words), cwd=tree, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until(f"port {port}", lambda: self.open("127.0.0.1", port), 30)

    def open(self, address, port):
        """Tell whether something on the client's network takes connections there."""
        return not self.run("bash", "-c", f": < /dev/tcp/{address}/{port}", check=False).returncode

    def alive(self):
        """Return the CPUs of each node that is up, by address."""
        token = (self.folder / "home/.ray/auth_token").read_text()
        url = f"http://127.0.0.1:{DASHBOARD}/api/v0/nodes"
        said = self.run("curl", "-sf", url, "-H", f"Authorization: Bearer {token}", check=False)
        nodes = json.loads(said.stdout)["data"]["result"]["result"] if said.stdout else []
        return {n["node_ip"]: n["resources_total"].get("CPU", 0) for n in nodes if n["state"] == "ALIVE"}

    def logged(self, experiment):
        """Return the runs of an MLflow experiment, as the client sees them."""
        return json.loads(self.run(sys.executable, "-c", LOGGED, experiment).stdout.splitlines()[-1])

    def submit(self, tree, *command, runtime_env=RUNTIME_ENV, check=True):
        """Submit a job with the code of a working tree, and follow its log to the end."""
        address = f"http://127.0.0.1:{DASHBOARD}"
        words = ("ray", "job", "submit", "--address", address, "--working-dir", ".", "--runtime-env-json", runtime_env)
        return self.run(*words, "--", *command, cwd=tree, check=check, timeout=900)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A working tree unlike what is installed on the hosts: in its MLflow experiment, and in what a study varies."""
    folder = tmp_path_factory.mktemp("tree")
    words = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (REPOSITORY / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(REPOSITORY / name, folder / name)
    replace(folder / "platform/timbrel/tracking.py", 'EXPERIMENT = "timbrel"', f'EXPERIMENT = "{MARK}"')
    replace(folder / "search_spaces/transfer_modes.py", '["scratch", "frozen", "finetune"]', '["scratch", "finetune"]')
    return folder


def replace(file, old, new):
    text = file.read_text()
    assert text.count(old) == 1, f"{old} is not in {file} once"
    file.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def lan(tree, tmp_path_factory):
    """Two hosts on which `ray up` was called, with the ports of dashboard and MLflow forwarded to the client."""
    folder = tmp_path_factory.mktemp("lan")
    with contextlib.ExitStack() as ending:
        lan = Lan(folder, ending)
        lan.host("head", HEAD)
        lan.host("worker", WORKER)
        config = tree / "cluster.local.yaml"
        for old, new in {"HEAD": HEAD, "WORKERS": WORKER, "USER": "root", "KEY": lan.key}.items():
            replace(config, f"REPLACE_{old}", str(new))
        text, lines = re.subn(
            r"^  - .*pip install.*$", "  - timbrel --help > /dev/null", config.read_text(), flags=re.M
        )
        assert lines == 2
        config.write_text(text)
        lan.run("ray", "get-auth-token", "--generate")
        lan.run("ray", "up", "-y", "--no-config-cache", config.name, cwd=tree)
        lan.forward(tree, DASHBOARD)
        lan.forward(tree, MLFLOW)
        until("the worker's Ray", lambda: lan.alive() == {HEAD: 0, WORKER: os.cpu_count()})
        yield lan


@pytest.fixture(scope="module")
def library(lan, tree):
    """A library that a job made in the folder that all hosts see."""
    folder = lan.folder / "shared" / "library"
    said = lan.submit(tree, "timbrel", "prepare", "house_band", "--library", folder, "--option", *SONGS)
    assert "succeeded" in said.stdout
    return folder


def test_outside_there_is_ssh_and_nothing_without_the_token(lan):
    assert lan.open(HEAD, 22)
    assert not lan.open(HEAD, DASHBOARD)
    assert not lan.open(HEAD, MLFLOW)
    asked = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://127.0.0.1:{DASHBOARD}/api/jobs/")
    assert lan.run(*asked).stdout == "401"
    token = (lan.folder / "home/.ray/auth_token").read_text()
    assert lan.run(*asked, "-H", f"Authorization: Bearer {token}").stdout == "200"
    for host in ("head", "worker"):
        assert (lan.folder / host / "home/.ray/auth_token").read_text() == token


@pytest.mark.parametrize(
    ("file", "old", "new", "runtime_env", "reason"),
    [
        (
            "platform/timbrel/__init__.py",
            '"0.1.0"',
            '"0.2.0"',
            RUNTIME_ENV,
            "this code is Timbrel 0.2.0, and the one installed on head is 0.1.0: install it again",
        ),
        (
            "pyproject.toml",
            "transfer_modes = ",
            'new_study = "search_spaces.transfer_modes:STUDY"\ntransfer_modes = ',
            RUNTIME_ENV,
            "this code and the Timbrel installed on head differ in timbrel.studies (new_study): install it again",
        ),
        ("pyproject.toml", "", "", "{}", "is not the Timbrel that would run"),
    ],
    ids=["version", "study", "no PYTHONPATH"],
)
def test_code_that_the_hosts_do_not_have_is_refused(lan, tree, library, tmp_path, file, old, new, runtime_env, reason):
    shutil.copytree(tree, tmp_path / "tree")
    if old:
        replace(tmp_path / "tree" / file, old, new)
    words = ("timbrel", "tune", "transfer_modes", "--library", library, *SIZE)
    said = lan.submit(tmp_path / "tree", *words, runtime_env=runtime_env, check=False)
    assert said.returncode != 0
    (line,) = {line.strip() for line in said.stdout.splitlines() if reason in line}  # Ray repeats the end of the log
    assert line.startswith("timbrel: ")
    assert "Traceback" not in said.stdout


def test_a_study_runs_the_code_that_is_submitted_and_its_results_come_home(lan, tree, library, tmp_path):
    storage = lan.folder / "shared" / "runs"
    words = ("timbrel", "tune", "transfer_modes", "--library", library, "--storage", storage, *SIZE)
    said = lan.submit(tree, *words).stdout
    assert re.search(r"compare the trials side by side:\n.*open http://127.0.0.1:5000", said), said
    assert "succeeded" in said
    assert not any(storage.iterdir())

    runs = lan.logged(MARK)
    assert lan.logged("timbrel") == []
    assert {run["status"] for run in runs} == {"FINISHED"}
    assert sorted(run["kind"] for run in runs) == ["study", "train", "trial", "trial"]
    trials = [run for run in runs if run["kind"] == "trial"]
    assert sorted(run["mode"] for run in trials) == ["finetune", "scratch"]
    assert all(run["loss"] > 0 for run in trials)

    (study,) = (run["id"] for run in runs if run["kind"] == "study")
    uri = f"http://127.0.0.1:{MLFLOW}"
    at_home = ("env", "PYTHONPATH=platform", "timbrel")
    table = lan.run(*at_home, "report", study, "--out", tmp_path / "report", "--tracking-uri", uri, cwd=tree).stdout
    assert "finetune" in table
    assert list((tmp_path / "report").glob("*.png"))
    lan.run(*at_home, "export", trials[0]["id"], "--out", tmp_path / "model", "--tracking-uri", uri, cwd=tree)
    assert (tmp_path / "model" / "README.md").is_file()


def test_all_that_mlflow_has_comes_home(lan, tree, tmp_path):
    on_head = lan.folder / "head" / "home" / "mlflow"
    lan.run("ray", "rsync-down", "cluster.local.yaml", "~/mlflow/", tmp_path / "mlflow", cwd=tree)
    assert (tmp_path / "mlflow" / "tracking.db").is_file()  # the file's rsync_exclude holds on the way back too
    names = {
        folder: {file.relative_to(folder) for file in folder.rglob("*")} for folder in (on_head, tmp_path / "mlflow")
    }
    assert names[on_head] == names[tmp_path / "mlflow"]


def test_ray_down_ends_ray_and_leaves_the_results(lan, tree):
    """The last of the tests on these hosts."""
    logged = lan.logged(MARK)
    assert "raylet" in lan.running("worker")
    lan.run("ray", "down", "-y", "cluster.local.yaml", cwd=tree, timeout=120)
    assert "gcs_server" not in lan.running("head")
    assert "raylet" not in lan.running("head")
    assert lan.logged(MARK) == logged
    # Workers notice by themselves that their head has gone.
    until("the end of the worker's Ray", lambda: "raylet" not in lan.running("worker"))
