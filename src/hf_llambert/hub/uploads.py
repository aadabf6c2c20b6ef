"""Shards of a labelled pool on the Hub, one after the other as they are finished."""

from __future__ import annotations

import queue
import threading
import time
from pathlib import Path
from types import TracebackType

from huggingface_hub import CommitOperationAdd, DatasetCard, DatasetCardData, HfApi
from huggingface_hub.errors import LocalTokenNotFoundError, RepositoryNotFoundError

from hf_llambert.hub.push import patiently
from hf_llambert.pool.manifest import file_checksum

FOLDER = "labels"
_PAUSE = 60.0  # seconds between commits: the Hub limits them by the hour
_NOTE = """# Labels by a student

Shards of a corpus that a small text classifier labelled with `hf_llambert`. **The labels are machine-generated.** The table
grows while the run goes on.
"""


class ShardUploads:
    """
    A function to pass to `label_pool(on_shard=...)` that uploads each finished shard to `labels/` of a dataset on the Hub,
    while the next ones are computed. What is there with the same content is not sent again.

    Used in a `with` block, at whose end everything has arrived. Several processes may upload to one repository.

    Args:
        repo_id (`str`): Name on the Hub, such as `our-team/reviews-labelled`.
        public (`bool`, defaults to `False`): Let everybody see it.

    Raises:
        PermissionError: There is no token.
        ValueError: The repository is public and `public` is off.
        ConnectionError: The Hub could not be reached, or went on failing.
    """

    def __init__(self, repo_id: str, public: bool = False) -> None:
        self.repo_id, self.public = repo_id, public
        self._api = HfApi(library_name="hf_llambert")
        self._waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="uploads", daemon=True)
        self._error: Exception | None = None

    @property
    def address(self) -> str:
        """Where the shards are."""
        return f"{self._api.endpoint}/datasets/{self.repo_id}"

    def __enter__(self) -> ShardUploads:
        try:
            patiently(self._api.whoami)
        except LocalTokenNotFoundError as error:
            raise PermissionError("No token of the Hub was found. Run hf auth login, or set HF_TOKEN.") from error
        try:
            private = patiently(self._api.repo_info, self.repo_id, repo_type="dataset").private
        except RepositoryNotFoundError:
            private = not self.public
            patiently(self._api.create_repo, self.repo_id, repo_type="dataset", private=private, exist_ok=True)
        if not private and not self.public:
            raise ValueError(
                f"The dataset '{self.repo_id}' is public. Pass --public to upload there, or choose another."
            )
        self._thread.start()
        return self

    def __call__(self, shard: Path) -> None:
        """Upload a shard when its turn comes."""
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
            there = self._there()
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
                self._commit([path for path in batch if path is not None], there)
                last = time.monotonic()
        except Exception as error:  # noqa: BLE001  (raised where the next shard comes, or at the end)
            self._error = error

    def _there(self) -> dict[str, str]:
        """Checksums of what is on the Hub already, by place."""
        found = patiently(lambda: list(self._api.list_repo_tree(self.repo_id, repo_type="dataset", recursive=True)))
        there = {entry.path: lfs.sha256 if (lfs := getattr(entry, "lfs", None)) else "" for entry in found}
        if "README.md" not in there:
            files = [{"split": "train", "path": f"{FOLDER}/*.parquet"}]
            data = DatasetCardData(
                annotations_creators=["machine-generated"],
                task_categories=["text-classification"],
                tags=["hf_llambert"],
                configs=[{"config_name": FOLDER, "data_files": files}],
            )
            card = DatasetCard(f"---\n{data.to_yaml()}\n---\n\n{_NOTE}")
            self._send([CommitOperationAdd("README.md", str(card).encode())], "Begin")
        return there

    def _commit(self, shards: list[Path], there: dict[str, str]) -> None:
        sums = {f"{FOLDER}/{path.name}": (path, file_checksum(path)) for path in shards}
        new = {place: found for place, found in sums.items() if there.get(place) != found[1]}
        if new:
            files = [CommitOperationAdd(place, str(path)) for place, (path, _) in new.items()]
            self._send(files, f"Add {len(new)} shard(s) of labels")
            there.update({place: checksum for place, (_, checksum) in new.items()})

    def _send(self, files: list[CommitOperationAdd], message: str) -> None:
        patiently(self._api.create_commit, self.repo_id, files, commit_message=message, repo_type="dataset")
