"""Uploads the shards of a labelled pool to the Hub, each when it is finished."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from huggingface_hub import HfApi

from hf_llambert.hub.cards import shards_card
from hf_llambert.hub.commits import check_access, patiently, send
from hf_llambert.hub.files import LABELS, shard_place
from hf_llambert.pool.labelled import read_labels
from hf_llambert.pool.manifest import file_checksum

_PAUSE = 60.0  # seconds between commits: the Hub limits them by the hour


class ShardUploads:
    """
    A function to pass to `label_pool(on_shard=...)` that uploads each finished shard to `labels/` of a dataset on the Hub,
    while the next ones are computed. What is there with the same content is not sent again. Files and card are those of
    [`push_run`], which goes on from what is there. Shards of another student go with the first commit, those that the pool no
    longer has with the last; files that nothing here wrote stay.

    Used in a `with` block, at whose end everything has arrived. Several processes may upload to one repository.

    Args:
        repo_id (`str`): Name on the Hub, such as `our-team/reviews-labelled`.
        public (`bool`, defaults to `False`): Let everybody see it.

    Raises:
        PermissionError: No token, one that may not write, or a name of somebody else.
        ValueError: The repository is public and `public` is off.
        ConnectionError: The Hub could not be reached, or went on failing.
    """

    def __init__(self, repo_id: str, public: bool = False) -> None:
        self.repo_id, self.public = repo_id, public
        self._api = HfApi(library_name="hf_llambert")
        self._waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._error: Exception | None = None
        self._folder: Path | None = None  # of the shards
        self._due: dict[str, Path | bytes] = {}  # by place

    @property
    def address(self) -> str:
        """Where the shards are."""
        return f"{self._api.endpoint}/datasets/{self.repo_id}"

    def __enter__(self) -> ShardUploads:
        if "dataset" not in check_access(self._api, self.repo_id, ("dataset",), self.public):
            private = not self.public
            patiently(self._api.create_repo, self.repo_id, repo_type="dataset", private=private, exist_ok=True)
        self._thread.start()
        return self

    def __call__(self, shard: Path) -> None:
        """Queue a shard; a thread uploads it."""
        if self._error is not None:
            raise self._error
        self._waiting.put(shard)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._waiting.put(None)
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _work(self) -> None:
        try:
            ended, last = False, -_PAUSE
            while not ended:
                batch = [self._waiting.get()]
                while batch[-1] is not None and (pause := last + _PAUSE - time.monotonic()) > 0:
                    try:
                        batch.append(self._waiting.get(timeout=pause))
                    except queue.Empty:
                        break
                while not self._waiting.empty():
                    batch.append(self._waiting.get())
                ended = None in batch
                self._commit([path for path in batch if path is not None], ended)
                last = time.monotonic()
        except Exception as error:  # noqa: BLE001  (raised where the next shard comes, or at the end)
            self._error = error

    def _commit(self, shards: list[Path], ended: bool) -> None:
        """Send shards. Once the pool is labelled to its end, what it no longer has goes and the card says so."""
        files = {shard_place(path): path for path in shards}
        self._due |= files
        if shards:
            self._folder = shards[0].parent
        if self._folder is None or not (ended or self._are_new(files)):
            return
        labels = read_labels(self._folder)
        student = labels.made_by if labels is not None else None
        whole = labels if ended and labels is not None and labels.complete else None
        own = {shard_place(path) for path in whole.shards()} if whole is not None else None

        def stays(place: str, earlier: str | None) -> bool:
            mine = earlier == student and (own is None or place in own)
            return mine or not place.startswith(f"{LABELS}/")

        card = shards_card(student, None if whole is None else whole.rows)
        title = f"Add {len(self._due)} shard(s) of labels" if self._due else "All labels are there"
        patiently(send, self._api, self.repo_id, "dataset", self._due, title, card, stays=stays, student=student)
        self._due = {}

    def _are_new(self, files: Mapping[str, Path]) -> bool:
        """Whether the Hub lacks one of these shards; a pool that is found finished is not announced anew."""
        found = patiently(self._api.get_paths_info, self.repo_id, list(files), repo_type="dataset")
        there = {entry.path: lfs.sha256 for entry in found if (lfs := getattr(entry, "lfs", None)) is not None}
        return any(there.get(place) != file_checksum(path) for place, path in files.items())
