"""What can be known of the two cluster files without starting them; tests/system/test_hosts.py starts the local one."""

import json
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent
TEXTS = {name: (REPOSITORY / name).read_text() for name in ("cluster.yaml", "cluster.local.yaml")}
COMMAND_LISTS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture(params=TEXTS)
def text(request) -> str:
    """Each of the files."""
    return TEXTS[request.param]


@pytest.fixture
def config(text) -> dict[str, Any]:
    return yaml.safe_load(text)


@pytest.fixture
def cloud() -> dict[str, Any]:
    return yaml.safe_load(TEXTS["cluster.yaml"])


@pytest.fixture
def local() -> dict[str, Any]:
    return yaml.safe_load(TEXTS["cluster.local.yaml"])


def start_command(config: dict[str, Any], which: str) -> str:
    (command,) = (line for line in config[f"{which}_start_ray_commands"] if "ray start" in line)
    return command


def test_ray_accepts_it(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


def test_nothing_is_left_to_defaults_that_open_a_port_or_install_another_ray(text, config):
    assert set(COMMAND_LISTS) <= set(config)
    assert "0.0.0.0" not in text
    assert "--dashboard-host=127.0.0.1" in start_command(config, "head")
    (mlflow,) = (line for line in config["head_start_ray_commands"] if "mlflow server" in line)
    assert "--host 127.0.0.1" in mlflow


def test_the_cloud_opens_no_port_to_the_world(cloud):
    for node_type in cloud["available_node_types"].values():
        assert node_type["node_config"]["SecurityGroupIds"]  # or Ray makes one that takes SSH from anywhere


def test_every_node_starts_with_the_token(config):
    for which in ("head", "worker"):
        command = start_command(config, which)
        assert command.index("RAY_AUTH_MODE=token") < command.index("ray start")
    assert "~/.ray/auth_token" in config["file_mounts"]


def test_jobs_find_an_mlflow_server_that_answers(config):
    server, waiting, ray = config["head_start_ray_commands"][-3:]
    assert "nohup mlflow server --host 127.0.0.1" in server
    assert server.endswith("< /dev/null &")
    assert re.search(r"^timeout \d+ .*127.0.0.1:5000/health", waiting)
    assert ray.index("MLFLOW_TRACKING_URI=http://127.0.0.1:5000") < ray.index("ray start")


@pytest.mark.parametrize("name", COMMAND_LISTS)
def test_commands_are_strings_of_one_line(config, name):
    for command in config[name]:
        assert isinstance(command, str)
        assert "\n" not in command


@pytest.mark.parametrize("name", COMMAND_LISTS)
def test_commands_are_shell(config, name):
    for command in config[name]:
        assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, command


def test_only_the_code_travels(config):
    assert {".git", ".venv"} <= set(config["rsync_exclude"])
    assert config["rsync_filter"] == [".gitignore"]
    assert config["file_mounts"]["~/timbrel"] == "."


def test_the_head_runs_no_task(config):
    assert "--num-cpus=0" in start_command(config, "head")


def test_the_cloud_head_is_not_spot_while_the_others_are(cloud):
    head, *workers = (cloud["available_node_types"][name] for name in ("head", "mixers", "trainers"))
    assert head["resources"] == {"CPU": 0}
    assert "InstanceMarketOptions" not in head["node_config"]
    for node_type in workers:
        assert node_type["min_workers"] == 1
        assert node_type["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert sum(node_type["max_workers"] for node_type in workers) == cloud["max_workers"]


def test_mixers_have_nodes_of_their_own(cloud):
    types = cloud["available_node_types"]
    assert types["mixers"]["resources"]["mixer"] == types["mixers"]["resources"]["CPU"]
    assert "mixer" not in types["trainers"]["resources"]
    assert "GPU" in types["trainers"]["resources"]


def test_the_images_hold_the_ray_that_is_installed_here(cloud):
    images = [cloud["docker"]["image"], cloud["available_node_types"]["trainers"]["docker"]["worker_image"]]
    assert {re.fullmatch(r"rayproject/ray:([\d.]+)-py311-\w+", image)[1] for image in images} == {version("ray")}


def test_hosts_of_ones_own_are_started_by_the_first_autoscaler(local):
    assert local["provider"]["type"] == "local"
    assert "available_node_types" not in local
    command = start_command(local, "head")
    assert command.index("RAY_enable_autoscaler_v2=0") < command.index("ray start")


@pytest.mark.parametrize(("gpu", "resources"), [(False, '--resources={"mixer":7}'), (True, "")])
def test_hosts_without_a_gpu_are_for_mixing(local, tmp_path, gpu, resources):
    tools = {"nproc": "echo 7", "ray": 'echo "$@"'} | ({"nvidia-smi": "true"} if gpu else {})
    for name, does in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["/bin/bash", "-c", start_command(local, "worker")],
        env={"PATH": str(tmp_path), "RAY_HEAD_IP": "10.0.0.1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["start", "--address=10.0.0.1:6379", *resources.split()]


def test_the_runtime_environment_in_the_header_is_valid_json(text):
    (runtime_env,) = re.findall(r"--runtime-env-json '(.*?)'", text)
    assert json.loads(runtime_env) == {"env_vars": {"PYTHONPATH": "platform"}}


def uploaded(folder: Path, scratch: Path) -> dict[str, int]:
    """Return the sizes in bytes of the files that `ray job submit --working-dir` would upload, by name."""
    from ray._private.runtime_env.packaging import _zip_files
    from ray._private.runtime_env.working_dir import upload_working_dir_if_needed

    packed = {}

    def pack(path: str, excludes: list[str]) -> None:
        _zip_files(path, excludes, str(scratch / "code.zip"), include_gitignore=True)
        with ZipFile(scratch / "code.zip") as archive:
            packed.update({entry.filename: entry.file_size for entry in archive.infolist()})

    upload_working_dir_if_needed({"working_dir": str(folder)}, include_gitignore=True, upload_fn=pack)
    return packed


def test_what_a_job_uploads_is_the_code_alone_and_far_below_the_limit_of_100_mb(tmp_path):
    files = uploaded(REPOSITORY, tmp_path)
    assert {"platform/timbrel/__init__.py", "search_spaces/transfer_modes.py", "pyproject.toml"} <= set(files)
    assert sum(files.values()) < 20e6


def test_libraries_runs_and_environments_are_not_uploaded(tmp_path):
    (tmp_path / ".gitignore").write_text((REPOSITORY / ".gitignore").read_text())
    left_out = [
        ".git/objects/pack/one.pack",
        ".venv/lib/python3.11/site-packages/torch.so",
        "library/house_band/catalogue.parquet",
        "demo/library/house_band/catalogue.parquet",
        "runs/study/trial/checkpoint.pt",
        "mlflow.db",
        "mlflow-artifacts/0/run/model/weights.pt",
        "mlruns/0/meta.yaml",
        ".hypothesis/examples/1",
        "platform/timbrel/__pycache__/library.pyc",
    ]
    for name in [*left_out, "platform/timbrel/library.py"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("something")
    scratch = tmp_path / "dist"  # git ignores it
    scratch.mkdir()
    assert set(uploaded(tmp_path, scratch)) == {".gitignore", "platform/timbrel/library.py"}
