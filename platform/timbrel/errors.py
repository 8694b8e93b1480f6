"""The one error that reaches a user as a sentence, and the helper that suggests the nearest name."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right.

    The message is one sentence that names the file or the value at fault and the remedy. The command line
    prints it without a traceback and exits with status 2; every other exception is a defect of ours and
    shows where it came from.
    """


def one_line(text: str) -> str:
    """Return ``text`` as one line that any terminal shows: breaks as spaces, what can't be printed as its escape.

    Names of files and cells of lists end up in messages, and may hold anything.
    """
    words = " ".join(text.split())
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in words)


def is_utf8(name: object) -> bool:
    """Tell whether a name, as Python reads it from the file system, can be written down in UTF-8."""
    try:
        str(name).encode()
    except UnicodeEncodeError:
        return False
    return True


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UserError:
    """Return the error for a ``name`` that is not among the ``known`` names, suggesting the nearest of them."""
    names = sorted(known)
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    if nearest:
        return UserError(f"unknown {kind} '{name}': did you mean '{nearest[0]}'?")
    return UserError(f"unknown {kind} '{name}': choose one of {', '.join(names) or '(none installed)'}.")


def find_user_error(error: BaseException | None) -> UserError | None:
    """Return the UserError behind an exception, if there is one.

    Ray wraps what an actor or a worker raises, in more than one way: as ``cause``, as an exception that derives from
    both, by worker, and by Ray Data as text alone, in which the sentence follows the name of the class.
    """
    chain: dict[int, BaseException] = {}
    waiting = [error]
    while waiting:
        candidate = waiting.pop()
        if candidate is None or id(candidate) in chain:
            continue
        chain[id(candidate)] = candidate
        wrapped = getattr(candidate, "cause", None)
        if isinstance(candidate, UserError) and wrapped is None:
            return candidate
        waiting += [candidate.__cause__, candidate.__context__, wrapped]
        waiting += list(getattr(candidate, "worker_failures", {}).values())
    told = [re.search(r"\btimbrel\.errors\.UserError: (.+)", str(candidate)) for candidate in chain.values()]
    return next((UserError(match[1].strip()) for match in told if match), None)
