"""`label_pool`: a pool of any size in, Parquet shards with the student's columns out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features, IterableDataset

from hf_llambert.annotation.turns import one_at_a_time
from hf_llambert.data import check_texts, claim_stage, note_stage, refuse_missing, stage_results, write_whole
from hf_llambert.notes import LABELLED, empty_shape
from hf_llambert.pool.labelled import count_stages
from hf_llambert.pool.manifest import NOTES, Manifest, run_digest, shard_files
from hf_llambert.pool.share import Share
from hf_llambert.pool.sources import Piece, pool_features, pool_pieces, table_texts
from hf_llambert.processes import everyones, launched
from hf_llambert.progress import progress_bar
from hf_llambert.reading import FileFormat
from hf_llambert.tasks.logs import get_logger
from hf_llambert.tasks.spec import TaskSpec
from hf_llambert.tasks.texts import TextColumn, column_names, why_unusable
from hf_llambert.training.labeler import Labeler
from hf_llambert.training.students import StudentLabeler
from hf_llambert.whole import room_needed

logger = get_logger(__name__)

_SAMPLE = 512  # texts on which lower precision is compared with float32
_LEAST_AGREEMENT = 0.995
_LOOK_AGAIN = 0.5  # seconds
_SEEN_WITHIN = 120.0  # seconds
_RESULTS = (LABELLED, empty_shape)


def label_pool(
    pool: Dataset | IterableDataset | str | Path,
    labeler: Labeler,
    output: str | Path,
    rows_per_shard: int = 10_000,
    show_progress: bool = True,
    *,
    split: str | None = None,
    keep: Sequence[str] | None = None,
    task: TaskSpec | None = None,
    overwrite: bool = False,
    process: tuple[int, int] | None = None,
    on_shard: Callable[[Path], None] | None = None,
    encoding: str = "utf-8",
    delimiter: str = ",",
    config: str | None = None,
    label_columns: Sequence[str] = (),
) -> dict:
    """
    Label every row of a pool into `output/part-*.parquet`, in order; neither memory nor disk ever holds all of it twice.

    A shard is written whole or not at all, with a note of its rows, source and checksum in `output/.manifest`. The same
    call again computes only what is missing or damaged. Under `accelerate launch` each process takes its share by rank;
    they wait for one another only at the end.

    A dataset or a Parquet file, whose rows are counted beforehand, is shared by its shards. **Any other file, and a stream,
    is read by one process**, the largest files first, each by the process that has least to read: no other process can
    help with one giant CSV. Write that as Parquet first, or load it (`load_data`) and pass the dataset.

    Args:
        pool: A dataset or a stream; or a file, a directory of files or a Hub id, which is read piece by piece: .parquet,
            .jsonl, .json, .csv or .arrow, compressed or not. See [`pool_pieces`].
        labeler (`StudentLabeler` or `StudentCascade`): The student. If it computes in less than float32, its labels are
            compared first, on the pool's first 512 texts; where more than 0.5 % of them change, `dtype="auto"` becomes
            float32, and a stated one is refused.
        output (`str` or `Path`): Where the shards go.
        rows_per_shard (`int`, defaults to 10,000): Rows in each shard but the last of a file.
        show_progress (`bool`, defaults to `True`): Draw a progress bar.
        split (`str`, *optional*): Split of a Hub id.
        keep (`Sequence[str]`, *optional*): Columns of the input to write beside the student's. Defaults to all.
        task (`TaskSpec`, *optional*): What the student must have learnt.
        overwrite (`bool`, defaults to `False`): Replace labels of another student or pool.
        process (`tuple[int, int]`, *optional*): Which process of how many this is, counted from 0, where no launcher says
            so: each is then started, and started again, by itself, and none waits for another.
        on_shard (`Callable`, *optional*): Called with the path of each finished shard, also of those found finished.
        encoding (`str`, defaults to `"utf-8"`): Encoding of CSV and JSON files.
        delimiter (`str`, defaults to `","`): What stands between the fields of a CSV; in a .tsv it is a tab.
        config (`str`, *optional*): Configuration of a Hub id.
        label_columns (`Sequence[str]`, defaults to none): Columns to read as strings; see [`load_data`].

    Returns:
        `dict`: `complete`, `n_labelled`, `n_unusable`, `seconds` of computing summed over processes, `texts_per_second`
        of one and, below float32, `agreement`; of two students `by_stage`, how many texts each answered. Where other
        processes are not done, `complete` is `False`.

    Raises:
        BlockingIOError: Another process writes the same share of `output`.
        FileExistsError: `output` holds labels of another pool or student.
        ValueError: No such column, no rows, no classifier, another task's student, or too little agreement.
        RuntimeError: Some of the files of this process cannot be read (under a launcher: of any). The others are labelled.
    """
    rank, count = process or launched()
    form = FileFormat(encoding, delimiter, label_columns, tuple(column_names(labeler.text_column)))
    pieces = pool_pieces(pool, split, form, config)
    if rows_per_shard < 1 or not 0 <= rank < count:
        raise ValueError(
            f"Expected a positive rows_per_shard and a process from 0 to their number, got {rows_per_shard}, {rank}/{count}."
        )
    if task is not None:
        labeler.check_task(task)
    features = pool_features(pieces)
    kept = _kept(features, labeler.text_column, keep)
    reading = {"text_column": labeler.text_column, "rows_per_shard": rows_per_shard, "columns": kept}
    known = [piece.num_rows for piece in pieces if piece.num_rows is not None]
    total = sum(known) // count if len(known) == len(pieces) else None
    if len(known) == len(pieces) and not any(known):
        raise ValueError("The pool has no rows.")
    folder = Path(output)
    compared = folder / NOTES / f"agreement-{run_digest(labeler.settings() | reading)}"
    agreement = _agreement(labeler.encoder, pieces, compared, alone=process is not None)
    settings = labeler.settings() | reading  # it may be float32 now
    run = run_digest(settings)
    labeler.warm_up()
    claim_stage(folder, settings, overwrite)
    manifest = Manifest(folder, run, pieces, rows_per_shard)
    manifest.read()
    if manifest.changed and not overwrite:
        raise FileExistsError(
            f"'{folder}' holds the results of another run (pool: {', '.join(sorted(manifest.changed)[:3])} changed since). "
            f"Choose another output, or overwrite."
        )
    if agreement is not None:
        write_whole(compared, str(agreement))
    share = Share(labeler, features, kept, manifest, rank, count, on_shard, whole=keep is None)
    turn = one_at_a_time(folder, f"{rank}-of-{count}" if count > 1 else "")
    with turn:
        _reopen(manifest, settings)
        if rank == 0 or process is not None:
            manifest.drop_others()
        if process is None:
            everyones(None)  # nobody writes before that is done
        there = share.look()
        _reopen(manifest, settings)
        with progress_bar("labeling", total, show_progress and rank == 0) as progress:
            progress(there)
            with room_needed(folder):
                share.compute(progress)
    parts, alone = list(labeler.questions), None if process else rank
    return _concluded(manifest, settings, list(share.lost.values()), alone, agreement, parts)


def _concluded(
    manifest: Manifest, settings: dict, lost: list[str], rank: int | None, agreement: float | None, parts: list[str]
) -> dict:
    """The results once a share is done; with `rank`, once the shares of all launched processes are."""
    if rank is not None:
        lost = [reason for reasons in everyones(lost) for reason in reasons]
    manifest.read()
    if lost:
        raise RuntimeError(
            f"{len(lost)} of {len(manifest.pieces)} pieces of the pool could not be read. {' '.join(lost[:5])} The "
            f"{sum(shard.rows for shard in manifest.shards.values()):,} rows of the rest are labelled in '{manifest.folder}'. "
            f"Mend or remove what is broken and run again."
        )
    if rank is None and not manifest.complete():
        return _counts(manifest, complete=False)
    results = {}
    if not rank:
        _see_all(manifest)
        lower = {} if agreement is None or settings["dtype"] == "float32" else {"agreement": agreement}
        results = _verified(manifest) | lower
        manifest.clean()
        results |= count_stages(shard_files(manifest.folder), parts)
        if results != stage_results(manifest.folder, settings, _RESULTS):  # else it stays noted when they were made
            note_stage(manifest.folder, settings, results)
    return results if rank is None else everyones(results)[0]


def _reopen(manifest: Manifest, settings: dict) -> None:
    """Remove the note that the pool is complete, before any shard is replaced."""
    is_whole = not manifest.changed and manifest.complete()
    if not is_whole and stage_results(manifest.folder, settings, _RESULTS):
        note_stage(manifest.folder, settings, {})


def _see_all(manifest: Manifest) -> None:
    """Wait until the shards that other processes have finished are seen here; a network's disk may take a minute."""
    begun = time.monotonic()
    while not manifest.complete():
        if time.monotonic() - begun > _SEEN_WITHIN:
            raise RuntimeError(
                f"Shards that other processes have finished are not in '{manifest.folder}'. All must write to one folder that "
                f"all see; or remove it and run again."
            )
        time.sleep(_LOOK_AGAIN)
        manifest.read()


def _kept(features: Features, text_column: TextColumn, keep: Sequence[str] | None) -> list[str]:
    refuse_missing(list(features), text_column)
    for name in column_names(text_column):
        check_texts(features, name)
    unknown = [name for name in keep or () if name not in features]
    if unknown:
        raise ValueError(f"There is no column {unknown} to keep in {list(features)}.")
    kept = [name for name in features if keep is None or name in keep]
    taken = [name for name in kept if name.startswith("student_")]
    if taken:
        raise ValueError(
            f"The pool has the columns {taken} already. Remove, rename or do not keep them before labeling."
        )
    return kept


def _agreement(labeler: StudentLabeler, pieces: Sequence[Piece], noted: Path, alone: bool) -> float | None:
    """
    How often lower precision gives the label of float32, on the process where it does so least often; computed once for each
    run. Where that is too seldom, a labeler whose dtype was left to it takes float32.
    """
    agreement = None
    if (dtype := labeler.settings()["dtype"]) != "float32":
        try:
            agreement = float(noted.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none yet, or damaged: compared anew
            texts = list(islice(_usable_texts(pieces, labeler.text_column), _SAMPLE))
            agreement = labeler.agreement(texts) if texts else 1.0
    if not alone:  # all must label alike, however their GPUs round
        agreement = min((one for one in everyones(agreement) if one is not None), default=None)
    if agreement is not None and dtype != "float32" and agreement < _LEAST_AGREEMENT:
        found = (
            f"With dtype='{dtype}' on {labeler.backend} only {agreement:.2%} of the texts compared keep the label that float32 "
            f"gives them; at least {_LEAST_AGREEMENT:.1%} must."
        )
        if labeler.dtype != "auto":
            raise ValueError(f"{found} Use another dtype or backend.")
        logger.warning("%s Labeling in float32.", found)
        labeler.dtype = "float32"
    return agreement


def _usable_texts(pieces: Sequence[Piece], column: TextColumn) -> Iterator[str]:
    for piece in pieces:
        with suppress(Exception):  # said when the piece is labelled
            for table in piece.read(0):
                yield from (str(text) for text in table_texts(table, column) if why_unusable(text) is None)


def _counts(manifest: Manifest, complete: bool) -> dict:
    shards = manifest.shards.values()
    rows, unusable = sum(shard.rows for shard in shards), sum(shard.unusable for shard in shards)
    seconds = sum(shard.seconds for shard in shards)
    return {
        "complete": complete,
        "n_labelled": rows - unusable,
        "n_unusable": unusable,
        "seconds": seconds,
        "texts_per_second": rows / seconds if seconds else None,
    }


def _verified(manifest: Manifest) -> dict:
    """The counts. Raises `RuntimeError` where a file has another number of rows than its note."""
    if not manifest.shards or not any(shard.rows for shard in manifest.shards.values()):
        raise ValueError("The pool has no rows.")
    expected: dict[int, int] = {}
    for (number, chunk), shard in sorted(manifest.shards.items()):
        rows = 0
        if shard.rows:
            with suppress(OSError, pa.ArrowException):  # damaged: no row of it can be read
                rows = pq.read_metadata(manifest.folder / shard.name).num_rows
        if (
            rows != shard.rows
            or shard.start != expected.get(number, 0)
            or shard.start != chunk * manifest.rows_per_shard
        ):
            raise RuntimeError(
                f"'{manifest.folder / shard.name}' holds {rows:,} rows from row {shard.start:,} of '{shard.source}' on; expected "
                f"{shard.rows:,} from {expected.get(number, 0):,} on. Remove it and run again."
            )
        expected[number] = shard.start + rows
    for number, piece in enumerate(manifest.pieces):
        if piece.num_rows is not None and piece.num_rows != expected.get(number, 0):
            raise RuntimeError(
                f"'{manifest.folder}' holds {expected.get(number, 0):,} rows of '{piece.name}', expected {piece.num_rows:,}."
            )
    return _counts(manifest, complete=True)
