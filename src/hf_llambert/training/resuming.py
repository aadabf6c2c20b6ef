"""The identity of a training (all that can change its weights), and the checkpoint that it goes on from."""

from __future__ import annotations

import copy
import hashlib
import json
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer import TRAINER_STATE_NAME

from hf_llambert.models import content_id
from hf_llambert.tasks.kinds import KINDS
from hf_llambert.tasks.logs import get_logger
from hf_llambert.training.trainer import OF_KIND, StudentConfig

logger = get_logger(__name__)

CANNOT_MATTER = frozenset(
    (
        # where it is written, what is told to whom, and how fast it is
        *("output_dir", "run_name", "project", "report_to", "disable_tqdm", "log_level", "log_level_replica"),
        *("log_on_each_node", "logging_strategy", "logging_steps", "logging_first_step", "logging_nan_inf_filter"),
        *("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id", "include_num_input_tokens_seen"),
        *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy", "hub_always_push"),
        *("hub_revision", "save_only_model", "save_on_each_node", "save_total_limit", "enable_jit_checkpoint"),
        *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
        *("dataloader_prefetch_factor", "dataloader_multiprocessing_context", "torch_empty_cache_steps"),
        *("ddp_backend", "ddp_timeout", "ddp_find_unused_parameters", "local_rank", "debug", "skip_memory_metrics"),
        *("do_train", "do_eval", "do_predict", "restore_callback_states_from_checkpoint"),
    )
)
_ONLY_FOR_THE_BEST = frozenset(("save_strategy", "save_steps"))
"""These matter where the best checkpoint is kept, since they decide which there are."""


def decisive(args: StudentConfig, kinds: Collection[str] = tuple(KINDS)) -> dict:
    """
    All training arguments but those that cannot change a student of these kinds of questions; what a later transformers adds
    counts too.
    """
    left_out = CANNOT_MATTER if args.load_best_model_at_end else CANNOT_MATTER | _ONLY_FOR_THE_BEST
    if args.attention_dropout is None:  # so that trainings noted before there was such an argument are still the same
        left_out |= {"attention_dropout"}
    left_out |= {name for name, kind in OF_KIND.items() if kind not in kinds}
    decisive = {
        name: json.loads(json.dumps(value, default=str))
        for name, value in args.to_dict().items()
        if name not in left_out
    }
    if not _is_stated(args.resume_from_checkpoint):
        decisive["resume_from_checkpoint"] = None  # of this very training, if there is one
    elif Path(str(args.resume_from_checkpoint)).is_dir():
        decisive["resume_from_checkpoint"] = content_id(str(args.resume_from_checkpoint), None)
    return decisive


def own_folder(args: StudentConfig, config: Mapping[str, object]) -> StudentConfig:
    """The arguments with checkpoints in a folder that no other training uses, to go on with if there are any."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:12]
    own = copy.copy(args)
    own.output_dir = str(Path(str(args.output_dir)) / digest)
    if not _is_stated(args.resume_from_checkpoint):
        asked = str(args.resume_from_checkpoint).lower() == "true"
        own.resume_from_checkpoint = last_whole_checkpoint(Path(own.output_dir)) if asked else None
    return own


def _is_stated(checkpoint: str | bool | None) -> bool:
    """Whether `resume_from_checkpoint` names a folder."""
    return str(checkpoint).lower() not in ("true", "false", "none")


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint in a folder that is whole; a kill may have torn the very last. `None` where there is none."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: (len(path.name), path.name), reverse=True)
    for checkpoint in found:
        if torn := _torn(checkpoint):
            logger.warning("'%s' is not whole (%s): resuming from the one before it.", checkpoint, torn)
        else:
            return str(checkpoint)
    return None


def _torn(checkpoint: Path) -> str | None:
    """Which file of a checkpoint is missing or was not written to its end; `None` where all are."""
    files = [path for path in checkpoint.rglob("*") if path.is_file() and path.name != "training_args.bin"]
    if not any(path.suffix in (".safetensors", ".bin", ".distcp") for path in files):
        return "its weights are missing"
    if not (checkpoint / TRAINER_STATE_NAME).is_file():
        return f"{TRAINER_STATE_NAME} is missing"
    for path in files:
        try:
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))
            elif path.suffix == ".safetensors":
                with safe_open(path, "pt"):
                    pass
            elif path.suffix in (".bin", ".pt", ".pth") and not zipfile.is_zipfile(path):
                return path.name
        except (OSError, ValueError, RecursionError, SafetensorError):
            return path.name
    return None
