"""`timbrel check` and `timbrel prepare`."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from timbrel import config as configs
from timbrel.cli.arguments import LibraryDir, flat, make_options
from timbrel.errors import one_line
from timbrel.splits import SplitRule

if TYPE_CHECKING:
    from timbrel.check import Checked

SHOWN = 20
"""Reasons to skip something that a report prints; all of them are in dataset.json."""
NAMED = 3
"""Of the things that were skipped for one reason."""


def check(
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")],
    path: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="PATH")],
    /,
    *,
    option: Annotated[tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]], tyro.conf.arg(metavar="KEY=VALUE")] = (),
) -> None:
    """Say what a data set holds and what is wrong with it; nothing is copied.

        timbrel check stems my_songs

    Lists and the headers of audio files are read, and each file's last sample. `timbrel list sources SOURCE` shows the
    layout that is expected.

    Args:
        source: Which data set it is; `timbrel list sources` shows all.
        path: Folder or file that the source reads, s3:// and gs:// included.
        option: Options of the source.
    """
    from timbrel.check import check as check_files
    from timbrel.runtime import ray_session
    from timbrel.sources.folders import data_path

    chosen, options = make_options(source, option)
    where = data_path(path)
    with ray_session():
        found = check_files(chosen, where, options)
    print("\n".join(map(one_line, _found(found, source, path))))


def prepare(
    source: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="SOURCE")],
    path: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="[PATH]")] = None,
    /,
    *,
    library: LibraryDir,
    option: Annotated[tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]], tyro.conf.arg(metavar="KEY=VALUE")] = (),
    name: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    split: SplitRule = "random",
    replace: bool = False,
    bank: Annotated[tyro.conf.UseAppendAction[tuple[tuple[str, ...], ...]], tyro.conf.arg(metavar="KEY=VALUE")] = (),
) -> None:
    """Add a data set to a library: stems as WAV files, a catalogue, and where each stem sounds.

    Your own stems, one folder a song and one file an instrument:

        timbrel prepare stems my_songs --library library

    Songs that are composed and rendered on the spot, to try things on:

        timbrel prepare house_band --library library --option songs=40 seed=1

    The files are checked first, as `timbrel check` does. Bad ones are left out and named with the reason. The data set
    appears in the library when it is complete; interrupted, the same command goes on with the songs that are left.

    Args:
        source: Where the songs come from; `timbrel list sources` shows all, `timbrel list sources SOURCE` its options.
        path: Folder or file that the source reads, s3:// and gs:// included; house_band needs none.
        option: Options of the source.
        name: Name of the data set in the library; default: that of the source.
        split: How songs without an official split are divided 65 / 17.5 / 17.5 %: at random; stratified, so that rare
            instruments are on all sides; or by artist, so that nobody is heard on two. A song that the library has
            already, under whatever name, takes the side that it has there.
        replace: Replace a data set of this name.
        bank: Keep each stem at other pitches and speeds as well, for mixing.stretch=bank; a data set that is there
            already gets its bank added. With no more said it is 12 variants, each as large as the data set; otherwise
            some of steps=4 semitones=-2,2 rates=0.8,1.25.
    """
    from timbrel.mixing.bank import Bank, add_bank
    from timbrel.prepare import prepare as prepare_dataset
    from timbrel.runtime import ray_session
    from timbrel.sources.folders import data_path

    chosen, options = make_options(source, option)
    wanted = configs.with_values(Bank(), configs.assignments(flat(bank), "--bank")) if bank else None
    with ray_session():
        facts, done = prepare_dataset(
            chosen, data_path(path) if path else None, library, options, name, split=split, replace=replace
        )
        kept = add_bank(library, facts["name"], wanted) if wanted else None
    if not done:
        print(f"'{facts['name']}' is already in {library}, made from the same source and options: nothing to do.")
    print(_report(facts, library))
    if kept:
        print(_bank_report(*kept))


def _found(found: "Checked", source: str, path: str) -> list[str]:
    """Return what `timbrel check` prints."""
    artists = f" by {_many(len(found.artists), 'artist')}" if found.artists else ""
    unknown = f" and {_stems(found.unknown)} to be rendered" if found.unknown else ""
    lines = [
        f"{source} in {path}: {_many(found.songs, 'song')}{artists}, {_stems(found.stems)}, "
        f"{found.seconds / 3600:.2f} h of audio{unknown}",
        "splits: " + _list({split or "to be drawn": count for split, count in found.splits.items()}),
        "stems: " + _list(dict(found.instruments.most_common())),
    ]
    if found.classes:
        lines.append("classes: " + _list(dict(found.classes.most_common())))
    if found.tags:
        lines.append("tags: " + _list(dict(found.tags.most_common())))
    if found.channels:
        channels = ", ".join(f"{value} ({_stems(count)})" for value, count in sorted(found.channels.items()))
        rates = ", ".join(f"{value} Hz ({_stems(count)})" for value, count in sorted(found.sample_rates.items()))
        lines.append(f"channels: {channels}; rates: {rates}")
    problems = _problems(found.problems, "- ")
    return [*lines, *(["wrong, or left out:", *problems] if problems else ["nothing is wrong"])]


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _problems(problems: Iterable[tuple[str, str]], begin: str) -> list[str]:
    """Return what is left out and why, a line a reason, each with the same beginning."""
    from timbrel.check import grouped

    groups = grouped((what, why) for what, why in problems)
    lines = []
    for why, whats in groups[:SHOWN]:
        named = ", ".join(whats[:NAMED]) + (f" and {len(whats) - NAMED} more" if len(whats) > NAMED else "")
        lines.append(f"{begin}{named}: {why}")
    if len(groups) > SHOWN:
        lines.append(f"... and {len(groups) - SHOWN} other reasons")
    return lines


def _bank_report(bank: dict[str, Any], done: bool) -> str:
    """Return a bank in words; ``done``: it was rendered now."""
    variants = ", ".join(
        " ".join([f"{semitones:+.2f} semitones"] * (semitones != 0) + [f"at {rate:.2f}x speed"] * (rate != 1))
        for semitones, rate in bank["variants"]
    )
    when = f"rendered in {bank['seconds']} s" if done else "was there already"
    return f"bank of {len(bank['variants'])} variants ({variants}): {bank['bytes'] / 1e9:.2f} GB, {when}"


def _report(facts: dict[str, Any], library: Path) -> str:
    splits = ", ".join(f"{facts['splits'].get(split, 0)} {split}" for split in ("train", "valid", "test"))
    lines = [
        f"{facts['name']}: {facts['songs']} songs ({splits}), {facts['stems']} stems, "
        f"{facts['hours']:.2f} h of stem audio, {facts['notes']} notes, in {facts['seconds']} s",
        "stems: " + ", ".join(f"{name} {count}" for name, count in facts["instruments"].items()),
    ]
    if "channels" in facts:  # data sets of timbrel 0.1.0 don't say
        channels = ", ".join(f"{value} ({_stems(count)})" for value, count in facts["channels"].items())
        rates = ", ".join(f"{value} Hz ({_stems(count)})" for value, count in facts["sample_rates"].items())
        lines.append(f"channels: {channels}; rates: {rates}; mixing converts them to what a task asks for")
    lines += facts.get("split_remarks", [])
    silent = facts.get("silent", [])
    if silent:
        more = f", and {len(silent) - SHOWN} more" if len(silent) > SHOWN else ""
        lines.append(
            f"silent, or too quiet beside their song to count, and kept: {', '.join(silent[:SHOWN])}{more} "
            f"({_stems(len(silent))})"
        )
    lines += _problems(facts["skipped"], "skipped ") or ["nothing was skipped"]
    if len(facts["skipped"]) > SHOWN:
        lines.append(f"all of them: {library / facts['name'] / 'dataset.json'}")
    return "\n".join(map(one_line, lines))


def _stems(count: int) -> str:
    return _many(count, "stem")


def _many(count: int, thing: str) -> str:
    return f"{count} {thing}" if count == 1 else f"{count} {thing}s"
