"""Data sets in a bucket: a server that speaks S3, on this machine."""

import os
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest

from timbrel.library import Library

RATE_HZ = 8000
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, RATE_HZ).astype(np.float32)


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """Start a server with an empty bucket, and return its filesystem."""
    import s3fs

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }.items():
        monkeypatch.setenv(name, value)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert server.poll() is None, "the server has ended"
            assert time.monotonic() < deadline, "the server does not answer"
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        s3fs.S3FileSystem.clear_instance_cache()  # those of the server of the test before
        files = s3fs.S3FileSystem()
        files.mkdir("music")
        yield files
    finally:
        server.terminate()
        server.wait()


def test_a_folder_in_a_bucket_is_read_as_one_on_disk(bucket, command, tmp_path, write_stems, prepare_stems):
    folder = write_stems(
        tmp_path / "in", {"a": {"piano": NOISE, "violin": NOISE}, "b": {"drums": NOISE}}, rate_hz=RATE_HZ
    )
    (folder / "b/violin.wav").write_bytes((folder / "b/drums.wav").read_bytes()[:300])
    bucket.put(str(folder), "music/songs", recursive=True)
    status, out, errors = command("check", "stems", "s3://music/songs")
    assert status == 0, errors
    assert "stems in s3://music/songs: 2 songs, 3 stems" in out
    assert "s3://music/songs/b/violin.wav: truncated" in out
    status, out, errors = command("prepare", "stems", "s3://music/songs", "--library", "library")
    assert status == 0, errors
    local, _ = prepare_stems(folder, tmp_path / "local")
    assert Library.open(tmp_path / "library").facts("stems")["digest"] == local["digest"]
    status, out, _ = command("prepare", "stems", "s3://music/songs", "--library", "library")
    assert status == 0
    assert "nothing to do" in out
    bucket.put(str(folder / "a/piano.wav"), "music/songs/c/piano.wav")
    status, _, errors = command("prepare", "stems", "s3://music/songs", "--library", "library")
    assert status == 2
    assert "have changed" in errors


@pytest.mark.parametrize(
    ("path", "reason"), [("s3://music/nothing", "no such file or folder"), ("s3://nobody/x", "no such")]
)
def test_what_is_not_there_is_told(bucket, command, path, reason):
    status, _, errors = command("check", "stems", path)
    assert status == 2
    assert path in errors
    assert reason in errors
