"""`cluster.yaml` cannot be started in a test; what can be known of it without a cloud is checked here."""

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parent.parent
TEXT = (REPOSITORY / "cluster.yaml").read_text()
COMMAND_LISTS = (
    "initialization_commands",
    "setup_commands",
    "head_setup_commands",
    "worker_setup_commands",
    "head_start_ray_commands",
    "worker_start_ray_commands",
)


@pytest.fixture
def config() -> dict[str, Any]:
    return yaml.safe_load(TEXT)


def start_command(config: dict[str, Any], which: str) -> str:
    (command,) = (line for line in config[f"{which}_start_ray_commands"] if "ray start" in line)
    return command


def test_ray_accepts_it(config):
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(config)
    validate_config(prepared)
    assert set(prepared["available_node_types"]) == {"head", "mixers", "trainers"}


def test_nothing_is_left_to_defaults_that_open_a_port_or_install_another_ray(config):
    assert set(COMMAND_LISTS) <= set(config)
    assert "0.0.0.0" not in TEXT
    assert "--dashboard-host=127.0.0.1" in start_command(config, "head")
    (mlflow,) = (line for line in config["head_start_ray_commands"] if "mlflow server" in line)
    assert "--host 127.0.0.1" in mlflow
    for node_type in config["available_node_types"].values():
        assert node_type["node_config"]["SecurityGroupIds"]  # or Ray makes one that takes SSH from anywhere


def test_every_node_starts_with_the_token(config):
    for which in ("head", "worker"):
        command = start_command(config, which)
        assert command.index("RAY_AUTH_MODE=token") < command.index("ray start")
    assert "~/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("name", COMMAND_LISTS)
def test_commands_are_strings_of_one_line(config, name):
    for command in config[name]:
        assert isinstance(command, str)
        assert "\n" not in command


def test_only_the_code_travels(config):
    assert {".git", ".venv"} <= set(config["rsync_exclude"])
    assert config["rsync_filter"] == [".gitignore"]
    assert config["file_mounts"]["~/timbrel"] == "."


def test_the_head_runs_no_task_and_is_not_spot_while_the_others_are(config):
    head, *workers = (config["available_node_types"][name] for name in ("head", "mixers", "trainers"))
    assert head["resources"] == {"CPU": 0}
    assert "--num-cpus=0" in start_command(config, "head")
    assert "InstanceMarketOptions" not in head["node_config"]
    for node_type in workers:
        assert node_type["min_workers"] == 1
        assert node_type["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert sum(node_type["max_workers"] for node_type in workers) == config["max_workers"]


def test_mixers_have_nodes_of_their_own(config):
    types = config["available_node_types"]
    assert types["mixers"]["resources"]["mixer"] == types["mixers"]["resources"]["CPU"]
    assert "mixer" not in types["trainers"]["resources"]
    assert "GPU" in types["trainers"]["resources"]


def test_the_images_hold_the_ray_that_is_installed_here(config):
    images = [config["docker"]["image"], config["available_node_types"]["trainers"]["docker"]["worker_image"]]
    assert {re.fullmatch(r"rayproject/ray:([\d.]+)-py311-\w+", image)[1] for image in images} == {version("ray")}


def test_the_runtime_environment_in_the_header_is_valid_json():
    (runtime_env,) = re.findall(r"--runtime-env-json '(.*?)'", TEXT)
    assert json.loads(runtime_env) == {"env_vars": {"PYTHONPATH": "platform"}}
