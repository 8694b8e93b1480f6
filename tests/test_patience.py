"""A server that is away while MLflow is asked: waited for, asked again, and given up in the end."""

import http.server
import threading

import pytest
import requests
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from timbrel import patience
from timbrel.errors import UserError
from timbrel.patience import PATIENCE_S, PatientClient, ServerGoneError, Wait, knock
from timbrel.tracking import Tracker

NOWHERE = "http://127.0.0.1:9"


class Flaky:
    """A client whose calls fail in the given ways, one after the other, before they succeed."""

    def __init__(self, *failures):
        self.failures = list(failures)
        self.calls = 0

    def log(self, value):
        self.calls += 1
        if self.failures:
            self.failures.pop(0)()
        return value


def unreachable():
    raise requests.ConnectionError("refused")


def as_mlflow_says():
    try:
        unreachable()
    except requests.ConnectionError as error:
        raise MlflowException(f"API request to x failed with exception {error}")  # noqa: B904  as MLflow does


def busy():
    raise requests.ConnectionError("too busy")


def status(code):
    def fail():
        response = requests.Response()
        response.status_code = code
        raise requests.HTTPError(str(code), response=response)

    return fail


def refused():
    raise MlflowException("no such run")


def defect():
    raise KeyError("x")


@pytest.fixture
def server(monkeypatch):
    """A server that says it is well."""

    class Well(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    monkeypatch.setattr(patience, "POLL_S", 0.05)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Well) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.fixture
def away(monkeypatch):
    monkeypatch.setenv(PATIENCE_S, "0.3")
    monkeypatch.setattr(patience, "POLL_S", 0.05)
    monkeypatch.setattr(patience, "_given_up", set())


@pytest.mark.parametrize(
    "failures",
    [[unreachable], [as_mlflow_says], [as_mlflow_says] * 3, [status(503)], [status(429), unreachable]],
    ids=["refused", "as MLflow puts it", "three times", "busy", "two ways"],
)
def test_what_the_server_did_not_answer_is_asked_again(server, failures):
    client = PatientClient(flaky := Flaky(*failures), server)
    assert client.log(5) == 5
    assert flaky.calls == len(failures) + 1
    assert client.asked_again == len(failures)


@pytest.mark.parametrize("failure", [refused, status(403), status(404), defect])
def test_what_it_refused_is_not(server, failure):
    client = PatientClient(flaky := Flaky(failure), server)
    with pytest.raises((MlflowException, requests.HTTPError, KeyError)):
        client.log(5)
    assert flaky.calls == 1


def test_a_server_that_answers_and_fails_is_given_up_too(server, monkeypatch):
    monkeypatch.setenv(PATIENCE_S, "0.3")
    with pytest.raises(ServerGoneError, match="too busy"):
        PatientClient(Flaky(*[lambda: (_ for _ in ()).throw(requests.ConnectionError("too busy"))] * 100), server).log(
            5
        )


def test_a_server_that_stays_away_is_waited_for_once(away, capsys):
    client = PatientClient(flaky := Flaky(*[as_mlflow_says] * 100), NOWHERE)
    with pytest.raises(ServerGoneError, match=rf"no MLflow server answered at {NOWHERE} for 0 s \(.*refused"):
        client.log(5)
    assert capsys.readouterr().err.count("waiting up to") == 1
    with pytest.raises(ServerGoneError):
        client.log(5)
    assert flaky.calls == 2
    assert "waiting" not in capsys.readouterr().err


def test_a_failure_in_a_thread_of_mlflows_is_known_by_the_server_being_away(away):
    with pytest.raises(ServerGoneError):
        PatientClient(Flaky(refused), NOWHERE).log(5)


def test_a_server_that_comes_back_is_gone_on_with(server, monkeypatch, capsys):
    silent = [OSError("refused")] * 3
    monkeypatch.setattr(patience, "knock", lambda uri: silent.pop() if silent else knock(uri))
    Wait(server).until_it_answers()
    assert capsys.readouterr().err.count("\n") == 2


@pytest.mark.parametrize("value", ["soon", "-1", "nan"])
def test_a_patience_that_is_no_time(monkeypatch, value):
    monkeypatch.setenv(PATIENCE_S, value)
    with pytest.raises(UserError, match=f"{PATIENCE_S}={value} is no number of seconds"):
        patience.patience_s()


def test_a_run_that_was_made_and_not_confirmed_is_not_doubled(server, tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}")
    tracker.check()

    class Forgetful(MlflowClient):
        made = 0

        def create_run(self, *arguments, **options):
            run = super().create_run(*arguments, **options)
            Forgetful.made += 1
            if Forgetful.made == 1:
                unreachable()
            return run

    tracker.__dict__["client"] = PatientClient(Forgetful(tracking_uri=tracker.uri), server)
    run = tracker.start("one", {"timbrel.x": "1"})
    assert Forgetful.made == 2
    assert [each.info.run_id for each in tracker.find({})] == [run.id]
