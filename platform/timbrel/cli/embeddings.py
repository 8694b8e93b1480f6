"""`timbrel embed`."""

from typing import TYPE_CHECKING, Annotated

import tyro

from timbrel.cli.arguments import LibraryDir, TrackingUri
from timbrel.errors import UserError, one_line

if TYPE_CHECKING:
    from timbrel.embeddings.embed import Embedded
    from timbrel.embeddings.teachers import Teacher

NAMED = 5
"""Songs that a message names of those that failed."""


def embed(
    teacher: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="TEACHER")],
    /,
    *,
    library: LibraryDir,
    weights: Annotated[str, tyro.conf.arg(metavar="FILE")] = "",
    datasets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = (),
    name: Annotated[str, tyro.conf.arg(metavar="NAME")] = "",
    path: Annotated[str, tyro.conf.arg(metavar="FOLDER")] = "",
    hop_s: Annotated[float | None, tyro.conf.arg(metavar="S")] = None,
    window_s: Annotated[float | None, tyro.conf.arg(metavar="S")] = None,
    replace: bool = False,
    tracking_uri: TrackingUri = "",
) -> None:
    """Keep what a teacher makes of each song, for models to learn from: vectors over time, beside the data set.

    What the published CRNN hears before it decides, each second; or a classifier that was trained here:

        timbrel embed crnn --weights best_model.pth --library library
        timbrel embed RUN --library library --name my_tagger

    Vectors that were made elsewhere, a file SONG.npy of shape (time, dimension) for each song:

        timbrel embed files --path vectors --hop-s 0.5 --library library --name my_vectors

    A song is heard as the sum of its stems. What is there already is not made again; interrupted or killed, the same
    command goes on with the songs that are left. What comes with a data set (OpenMIC's vggish) needs no command.

    Args:
        teacher: crnn, fcn or musicnn; checkpoint, or a run's id or an exported folder; files; vggish, openl3, passt or
            panns, which need a package each.
        weights: File of weights; for checkpoint, a run's id or an exported folder. Nothing is downloaded.
        datasets: Data sets of the library; default: all.
        name: Of the embeddings in the library; default: the teacher's.
        path: Of teacher files, the folder.
        hop_s: Seconds between two vectors; default: 1, or as the teacher's authors have it.
        window_s: Seconds of sound behind each vector; default: what the network was trained on (crnn and fcn 29,
            musicnn 3), with silence beyond the ends of a song.
        replace: Make all anew, in place of other embeddings of this name.
    """
    from timbrel.embeddings.embed import embed as embed_songs
    from timbrel.embeddings.teachers import check_name, load_teacher
    from timbrel.embeddings.teachers.options import TeacherOptions
    from timbrel.library import Library
    from timbrel.runtime import ray_session
    from timbrel.tracking import Tracker

    try:
        options = TeacherOptions(weights=weights, path=path, hop_s=hop_s, window_s=window_s)
    except ValueError as error:
        raise UserError(f"--{str(error).replace('_', '-', 1)}.") from None
    check_name(teacher)
    opened = Library.open(library)
    for dataset in datasets:
        opened.facts(dataset)
    chosen = load_teacher(teacher, options, Tracker(tracking_uri))
    with ray_session():
        done = embed_songs(opened, chosen, name, datasets, replace=replace)
    print("\n".join(_said(each, name or chosen.name, chosen) for each in done))
    failed = {f"{each.dataset}/{song}": why for each in done for song, why in each.failed.items()}
    if failed:
        first = "; ".join(one_line(f"{song}: {why}") for song, why in list(failed.items())[:NAMED])
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        raise UserError(
            f"{len(failed)} of {len(failed) + sum(each.songs for each in done)} songs have no embedding "
            f"({first}{more}): put them right, and the same command adds them."
        )


def _said(done: "Embedded", name: str, teacher: "Teacher") -> str:
    every = f"one each {teacher.hop_s:g} s" if teacher.hop_s else "one a song"
    what = f"'{name}' of {done.dataset}: {done.songs} songs, {teacher.dimension} numbers, {every}"
    if not done.new and not done.failed:
        return f"{what}; all of them were there: nothing to do"
    return f"{what}; {done.new} made in {done.seconds:.1f} s"
