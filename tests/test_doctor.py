"""`timbrel doctor`: plain words, a remedy for each fault, and the exit status."""

import json
import shutil
import types

import pytest

from timbrel import doctor
from timbrel.cli import main
from timbrel.doctor import Finding, disk_state, examine, library_state, mlflow_state, ray_state, torch_state, versions


@pytest.fixture
def no_cluster(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)


def faults(findings):
    return [found for found in findings if found.state != "ok"]


def test_one_screen_and_exit_status_0(command, no_cluster, tone_library, tmp_path):
    status, out, err = command("doctor", "--library", tone_library, "--storage", tmp_path / "runs")
    assert (status, err) == (0, ""), out
    lines = out.splitlines()
    assert len(lines) <= 24
    assert all(line.split()[0] in ("ok", "warning", "->") for line in lines)
    topics = [line.split()[1] for line in lines if not line.lstrip().startswith("->")]
    assert list(dict.fromkeys(topics)) == ["versions", "torch", "Ray", "MLflow", "disk", "library"]
    assert "9 songs" in out
    assert not list(tmp_path.iterdir())  # nothing is made, no database either


def test_long_lines_are_set_in(command, no_cluster, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command("doctor")
    assert all(len(line) <= 80 or "/" in line for line in out.splitlines())  # a path is not broken
    assert all(
        line.split()[0] in ("ok", "warning", "problem") or line.startswith(" " * 19) for line in out.splitlines()
    )


def test_a_problem_is_exit_status_1(command, no_cluster, tmp_path):
    status, out, err = command("doctor", "--library", tmp_path / "none")
    assert (status, err) == (1, "")
    assert "problem  library" in out
    assert "is no prepared library" in out
    assert "-> make one with `timbrel prepare" in out


def test_json(command, no_cluster, tmp_path):
    status, out, _ = command("doctor", "--library", tmp_path / "none", "--json")
    found = json.loads(out)
    assert status == 1
    assert found[-1].keys() == {"topic", "state", "text", "remedy"}
    assert (found[-1]["topic"], found[-1]["state"]) == ("library", "problem")
    assert {each["state"] for each in found} <= {"ok", "warning", "problem"}


# Topics


def test_versions_other_than_those_that_were_tested(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: "1.0" if name in ("ray", "tqdm") else real(name))
    told = faults(versions())[-1]
    assert told.state == "warning"
    assert told.text.startswith("other than in constraints.txt: ray 1.0 (tested: ")
    assert "constraints.txt" in told.remedy


def test_a_build_for_the_cpu_is_the_same_version(monkeypatch):
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: f"{real(name)}+cpu" if name == "torch" else real(name))
    assert not [found for found in faults(versions()) if "torch" in found.text]


def test_a_package_that_is_missing(monkeypatch):
    monkeypatch.setattr(doctor, "_version", lambda name: "" if name == "mlflow" else "1.0")
    assert next(found for found in versions() if found.state == "problem").text == "not installed: mlflow"


def test_a_gpu_that_torch_does_not_see(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.version.cuda", None)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (found,) = torch_state()
    assert (found.state, found.remedy) == ("warning", "install a torch that is for CUDA")
    monkeypatch.setattr("torch.version.cuda", "12.8")
    (found,) = torch_state()
    assert found.text.startswith("torch for CUDA 12.8 finds no GPU, though a driver is there")


def test_gpus_are_named(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    card = types.SimpleNamespace(name="H200", total_memory=150_000_000_000)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: card)
    (found,) = torch_state()
    assert found.state == "ok"
    assert found.text.endswith("H200 (150.0 GB), H200 (150.0 GB)")


def test_a_ray_of_this_machines_own(no_cluster, monkeypatch):
    monkeypatch.setattr("ray._private.utils.get_num_cpus", lambda **_: 8)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    (found,) = ray_state()
    assert found.state == "ok"
    assert "8 CPUs and 0 GPUs: 4 training runs at a time, with up to 2 mixing actors each" in found.text


def test_another_ray_on_this_machine(no_cluster, monkeypatch):
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", lambda: {"127.0.0.1:6379"})
    assert "another Ray runs here" in faults(ray_state())[0].text


def test_a_cluster_that_does_not_answer(command, no_cluster, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    status, out, _ = command("doctor")
    assert status == 1
    assert "problem  Ray       no Ray cluster answers at RAY_ADDRESS=127.0.0.1:9" in out
    assert "-> start it, or unset RAY_ADDRESS" in out


def test_mlflow_that_is_not_there_yet_is_not_made(tmp_path):
    (found,) = mlflow_state(f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert found.state == "ok"
    assert "is not there yet: the first run makes it" in found.text
    assert not list(tmp_path.iterdir())


def test_mlflow_that_answers(tmp_path, monkeypatch):
    from timbrel.tracking import Tracker

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    Tracker(uri).check()
    (found,) = mlflow_state(uri)
    assert found.state == "ok"
    assert "has the experiment 'timbrel'" in found.text
    monkeypatch.setattr(doctor, "SLOW_S", 0.0)
    assert [each.state for each in mlflow_state(uri)] == ["warning"]
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "a file on this machine" in list(mlflow_state(uri))[-1].text


@pytest.mark.parametrize("uri", ["http://ann:hunter2hunter@127.0.0.1:9", "sqlite:////dev/null/mlflow.db"])
def test_mlflow_that_does_not_answer(command, no_cluster, uri):
    status, out, _ = command("doctor", "--tracking-uri", uri)
    assert status == 1
    assert "problem  MLflow" in out
    assert "hunter2" not in out


def test_disks(tmp_path, monkeypatch):
    def usage(free):
        return lambda place: types.SimpleNamespace(total=1e12, used=1e12 - free, free=free)

    monkeypatch.setattr("shutil.disk_usage", usage(5e8))
    assert {found.state for found in disk_state(None, tmp_path) if "storage" in found.text} == {"problem"}
    monkeypatch.setattr("shutil.disk_usage", usage(3e9))
    assert {found.state for found in disk_state(None, tmp_path) if "storage" in found.text} == {"warning"}
    monkeypatch.setattr("shutil.disk_usage", usage(2e10))
    told = [found for found in disk_state(None, tmp_path) if "RAY_TMPDIR" in found.remedy]
    assert [found.state for found in told] == ["warning"]
    monkeypatch.setattr("shutil.disk_usage", usage(9e11))
    assert not faults(disk_state(tmp_path, tmp_path / "runs"))


def test_a_small_shared_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("ray._private.utils.estimate_available_memory", lambda: 10**15)
    told = list(disk_state(None, tmp_path))[-1]
    assert told.state == "warning"
    assert "--shm-size=200g" in told.remedy


def test_storage_that_can_not_be_written_to(command, no_cluster):
    status, out, _ = command("doctor", "--storage", "/dev/null/runs")
    assert (status, "can't be written to" in out) == (1, True)


def test_a_library_with_missing_and_shortened_files(tone_library, tmp_path):
    root = tmp_path / "library"
    shutil.copytree(tone_library, root)
    assert not faults(library_state(root))
    (root / "tones/songs/song 0/piano.wav").unlink()
    cut = root / "tones/songs/song 1/piano.wav"
    cut.write_bytes(cut.read_bytes()[:5000])
    (root / ".preparing-more").mkdir()
    found = faults(library_state(root))
    assert [each.state for each in found] == ["problem", "warning"]
    assert "missing or cut short: tones/songs/song 0/piano.wav, tones/songs/song 1/piano.wav" in found[0].text
    assert "--name tones --replace" in found[0].remedy
    assert ".preparing-more was begun and not finished" in found[1].text


def test_a_large_library_is_looked_at_in_part(tone_library, monkeypatch):
    monkeypatch.setattr(doctor, "LOOKED_AT", 5)
    told = [found.text for found in library_state(tone_library)]
    assert any("files looked at" in each for each in told)


def test_what_breaks_unexpectedly_hides_nothing_else(monkeypatch, tmp_path, no_cluster):
    def broken():
        raise ValueError("odd\nthing")
        yield

    monkeypatch.setattr(doctor, "torch_state", broken)
    found = list(examine(None, tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}"))
    told = next(each for each in found if each.topic == "torch")
    assert (told.state, told.text) == ("problem", "could not be looked at (ValueError: odd thing)")
    assert {each.topic for each in found} == {"versions", "torch", "Ray", "MLflow", "disk", "library"}


def test_nothing_secret_is_shown(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_TOKEN", "a secret of some length")
    monkeypatch.setattr(
        doctor, "torch_state", lambda: iter([Finding("", "ok", "a secret of some length\n" + str(tmp_path))])
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    told = next(found for found in examine(None, tmp_path, "") if found.topic == "torch")
    assert told.text == "*** ~"


@pytest.mark.ray
def test_a_cluster_that_answers(monkeypatch, tmp_path, capsys):
    import ray

    from timbrel.runtime import ray_session

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    with ray_session():
        monkeypatch.setenv("RAY_ADDRESS", ray.get_runtime_context().gcs_address)
        main(["doctor", "--json"])
    told = [found for found in json.loads(capsys.readouterr().out) if found["topic"] == "Ray"]
    assert told[0]["state"] == "ok"
    assert "1 node, " in told[0]["text"]
    assert "training run" in told[0]["text"]
