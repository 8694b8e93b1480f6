"""An MLflow server that is away for a while: wait for it, ask again what it did not answer, and say so.

MLflow's own retries are fewer and further apart: a server that was away for a minute would be waited for two, and one
that stays away ends in a traceback.
"""

import contextlib
import functools
import http.client
import os
import sys
import time
import urllib.error
import urllib.request
from typing import Any

from tqdm import tqdm

from timbrel.errors import UserError

PATIENCE_S = "TIMBREL_MLFLOW_PATIENCE_S"
"""The environment variable that says how long a server is waited for."""
DEFAULT_PATIENCE_S = 600.0
POLL_S = 1.0
ANSWER_S = 10.0
"""Within which a server that is well answers whether it is."""

# Whether to ask again, and when, is decided here; a user's own value wins.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

_given_up: set[str] = set()
"""Servers that were waited for in vain: while a command ends, each of its last words would wait once more."""


class ServerGoneError(UserError):
    """An MLflow server was there when the work began, and did not come back."""


def patience_s() -> float:
    """Return for how many seconds a server that is away is waited for.

    Raises:
        UserError: the environment variable holds no number.
    """
    value = os.environ.get(PATIENCE_S, DEFAULT_PATIENCE_S)
    with contextlib.suppress(ValueError):  # said below, as for a negative number
        if float(value) >= 0:
            return float(value)
    raise UserError(f"{PATIENCE_S}={value} is no number of seconds.")


def knock(uri: str) -> Exception | None:
    """Ask an HTTP server for a sign of life, and return what went wrong, None if it answers."""
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=ANSWER_S):
            pass
    except urllib.error.HTTPError:
        pass  # it answered; whether it lets us in is seen at the first request
    except (OSError, ValueError, http.client.HTTPException) as error:
        return error
    return None


class PatientClient:
    """An MLflow client of a server, whose calls wait for the server if it is away, and are then made again.

    All calls may be made twice without harm, ``create_run`` excepted: of that, see ``asked_again``.
    """

    def __init__(self, client: Any, uri: str) -> None:
        self._client = client
        self._uri = uri
        self.asked_again = 0
        """Calls that were made more than once."""

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        @functools.wraps(method)
        def call(*arguments: Any, **options: Any) -> Any:
            waiting = Wait(self._uri)
            while True:
                try:
                    return method(*arguments, **options)
                except Exception as error:
                    if not _unanswered(error, self._uri):
                        raise
                    waiting.until_it_answers(error)
                    self.asked_again += 1

        return call


class Wait:
    """A wait for a server, with an end."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.deadline: float | None = None

    def until_it_answers(self, error: Exception | None = None) -> None:
        """Return once the server answers; ``error`` is what it did when it was asked last.

        Raises:
            ServerGoneError: it was waited for in vain, now or before.
        """
        limit_s = patience_s()
        if self.deadline is None:
            self.deadline = time.monotonic() + limit_s
        elif error is not None:
            time.sleep(POLL_S)  # it answers, and fails all the same
        said = False
        while (refusal := knock(self.uri)) is not None or time.monotonic() > self.deadline:
            if self.uri in _given_up or time.monotonic() > self.deadline:
                _given_up.add(self.uri)
                reason = (str(refusal or error) or type(refusal or error).__name__).splitlines()[0]
                raise ServerGoneError(
                    f"no MLflow server answered at {self.uri} for {limit_s:.0f} s ({reason})"
                ) from None
            if not said:
                tqdm.write(f"MLflow at {self.uri} does not answer: waiting up to {limit_s:.0f} s", file=sys.stderr)
                said = True
            time.sleep(POLL_S)
        if said:
            tqdm.write("MLflow answers again: going on", file=sys.stderr)
        _given_up.discard(self.uri)


def _unanswered(failure: Exception, uri: str) -> bool:
    """Return whether a call failed because the server did not answer, or answered that it can't just now."""
    import requests
    from mlflow.exceptions import MlflowException
    from mlflow.utils.request_utils import _TRANSIENT_FAILURE_RESPONSE_CODES as TRANSIENT

    error: BaseException | None = failure
    while error is not None:
        if isinstance(error, requests.HTTPError):
            return error.response is not None and error.response.status_code in TRANSIENT
        if isinstance(error, requests.RequestException):
            return True
        error = error.__cause__ or error.__context__
    # What went wrong in one of MLflow's threads is known from its text alone.
    return isinstance(failure, MlflowException) and knock(uri) is not None
