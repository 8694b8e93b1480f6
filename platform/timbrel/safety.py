"""What must not leave its place: secrets, the home folder, and what the paths in data lead to.

Tracking servers, reports and pages are shared, and so are the logs of a cluster's jobs. What goes there passes through
``without_secrets``. A file below the home folder is written as ``~/weights.pth``, and found again by that name.
"""

import json
import os
import re
import tempfile
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit, urlunsplit

HIDDEN = "***"
"""Stands where a secret was."""
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY", re.IGNORECASE)
_NO_SECRET = re.compile(r"_(FILE|PATH|DIR|MODE)$", re.IGNORECASE)
"""Variables that say where a secret is, or how it is used."""
_LEAST = 8
"""Characters of a value that is looked for: a shorter one would be found in words that have nothing to do with it."""
_LOGIN = re.compile(r"(?<=://)[^\s/'\"]+@")
"""``user:password@`` or ``token@`` of an address; a password may hold an ``@`` of its own."""


def without_secrets(text: str) -> str:
    """Return a text without logins in addresses, values of secret environment variables, and the home folder."""
    text = _LOGIN.sub(f"{HIDDEN}@", text)
    for secret in _secrets():
        text = text.replace(secret, HIDDEN)
    for home in _homes():
        # Whole names alone: /home/ann is not the beginning of /home/anna, nor the end of /mnt/home/ann.
        text = re.sub(rf"(?<![\w.~-]){re.escape(home)}(?![\w-]|\.\w)", "~", text)
    return text


def split_login(address: str) -> tuple[str, str, str]:
    """Return an ``http`` address without its login, the user and the password; empty where there is none."""
    try:
        parts = urlsplit(address)
    except ValueError:  # no address: whoever uses it says so
        return address, "", ""
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return address, "", ""
    login, _, host = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(user), unquote(password)


def _secrets() -> list[str]:
    named = (value for name, value in os.environ.items() if _SECRET.search(name) and not _NO_SECRET.search(name))
    return sorted((value for value in named if len(value) >= _LEAST), key=len, reverse=True)


def _homes() -> list[str]:
    """Return the home folder as it is called, as it is once links are followed, and both as JSON writes them."""
    named = os.path.expanduser("~")
    homes = {named, os.path.realpath(named)} - {"~", "/", ""}
    homes |= {json.dumps(home)[1:-1] for home in homes}
    return sorted((home.rstrip("/") for home in homes), key=len, reverse=True)


def is_inside(relative: str) -> bool:
    """Tell whether a path that data name stays below the folder that it is relative to; links are not followed."""
    path = PurePosixPath(os.path.normpath(relative))
    return not path.is_absolute() and path.parts[:1] != ("..",) and "://" not in relative


def foreign_file(folder: Path) -> Path | None:
    """Return a file in ``folder``, or a folder of it, that somebody else wrote or anybody may write; None if all are
    this user's own.

    Who owns a new file is asked of the file system: on a network it may be nobody, whoever wrote it.
    """
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".") as own:
        mine = os.stat(own.name)
        others = 0 if mine.st_mode & 0o002 else 0o002  # a file system without permissions
        for file in (folder, *sorted(folder.rglob("*"))):
            found = file.lstat()
            if found.st_uid != mine.st_uid or (found.st_mode & others and not file.is_symlink()):
                return file
    return None
