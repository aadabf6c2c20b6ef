"""Label a big text corpus at the price of a small one: an LLM annotates a sample, a small encoder labels the rest."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from hf_llambert.annotation.annotate import annotate, saved_calibration
    from hf_llambert.annotation.calibration import (
        Calibration,
        batch_calibration,
        calibrate,
        contextual_calibration,
        fitted_calibration,
    )
    from hf_llambert.annotation.jury import jury_columns
    from hf_llambert.annotation.labelers import LLMLabeler
    from hf_llambert.annotation.ledger_tools import compact_ledger, export_ledger, ledger_stats
    from hf_llambert.annotation.limits import Limits
    from hf_llambert.annotation.silver import drop_label_errors, select_silver
    from hf_llambert.data import check_column, load_data, whole_folder, with_gold
    from hf_llambert.hub.cards import Publication, dataset_card, merge_cards, model_card
    from hf_llambert.hub.push import push_run
    from hf_llambert.hub.uploads import ShardUploads
    from hf_llambert.intervals import mean_interval, paired_bootstrap
    from hf_llambert.metrics import AnnotationQuality, ClassificationQuality
    from hf_llambert.planning.plan import StudentPlan, make_plan
    from hf_llambert.planning.prices import Price, PriceTable, load_prices, run_cost
    from hf_llambert.pool.cascade import cascade, pool_calibration
    from hf_llambert.pool.datatrove import StudentStep, TeacherStep, keep_empty_texts
    from hf_llambert.pool.guarantee import Guarantee, calibrate_cascade, guaranteed_threshold
    from hf_llambert.pool.labelled import cascade_summary, read_pool
    from hf_llambert.pool.shards import label_pool
    from hf_llambert.processes import main_process_first, wait_for_everyone
    from hf_llambert.quality.curves import learning_curve, worth_of_labels
    from hf_llambert.quality.drift import measure_drift
    from hf_llambert.quality.gate import GateMissed, check_gate, load_gate, show_gate
    from hf_llambert.quality.noise import likely_label_errors
    from hf_llambert.quality.prevalence import class_prevalence
    from hf_llambert.quality.slices import find_slices, length_slices, value_slices
    from hf_llambert.report.report import compare_labels, show_report, write_report
    from hf_llambert.review.exchange import export_review, import_review
    from hf_llambert.review.page import serve_review
    from hf_llambert.review.queue import build_queue, suspected_errors, write_queue
    from hf_llambert.review.session import Review, ReviewSession
    from hf_llambert.review.summary import review_lines, review_summary
    from hf_llambert.tasks.questions import ABSTAIN, LabelValues, parse_label_map
    from hf_llambert.tasks.spec import TaskSpec, load_task
    from hf_llambert.teachers.batches import write_batch
    from hf_llambert.teachers.endpoint import EndpointTeacher
    from hf_llambert.teachers.kinds import load_teacher
    from hf_llambert.teachers.local import TransformersTeacher
    from hf_llambert.teachers.prompting import PromptEncoder
    from hf_llambert.teachers.recorded import RecordedTeacher
    from hf_llambert.teachers.vllm import VLLMTeacher
    from hf_llambert.training.active import is_flat, next_to_annotate, student_silver
    from hf_llambert.training.backends import fastest_backend
    from hf_llambert.training.compared import compare_students, read_evaluation
    from hf_llambert.training.embeddings import embed_texts
    from hf_llambert.training.evaluation import evaluate_student
    from hf_llambert.training.folds import out_of_fold
    from hf_llambert.training.mixing import MixCallback
    from hf_llambert.training.seeds import train_seeds
    from hf_llambert.training.students import StudentLabeler
    from hf_llambert.training.train import train_student
    from hf_llambert.training.trainer import StudentConfig, StudentTrainer

_MODULES = {
    "annotation.annotate": "annotate saved_calibration",
    "annotation.calibration": ("Calibration batch_calibration calibrate contextual_calibration fitted_calibration"),
    "annotation.jury": "jury_columns",
    "annotation.labelers": "LLMLabeler",
    "annotation.ledger_tools": "compact_ledger export_ledger ledger_stats",
    "annotation.limits": "Limits",
    "annotation.silver": "drop_label_errors select_silver",
    "data": "check_column load_data whole_folder with_gold",
    "hub.cards": "Publication dataset_card merge_cards model_card",
    "hub.push": "push_run",
    "hub.uploads": "ShardUploads",
    "intervals": "mean_interval paired_bootstrap",
    "metrics": "AnnotationQuality ClassificationQuality",
    "pool.datatrove": "StudentStep TeacherStep keep_empty_texts",
    "pool.cascade": "cascade pool_calibration",
    "pool.guarantee": "Guarantee calibrate_cascade guaranteed_threshold",
    "pool.labelled": "cascade_summary read_pool",
    "pool.shards": "label_pool",
    "processes": "main_process_first wait_for_everyone",
    "report.report": "compare_labels show_report write_report",
    "quality.curves": "learning_curve worth_of_labels",
    "planning.plan": "StudentPlan make_plan",
    "planning.prices": "Price PriceTable load_prices run_cost",
    "quality.drift": "measure_drift",
    "review.exchange": "export_review import_review",
    "review.session": "Review ReviewSession",
    "review.page": "serve_review",
    "review.queue": "build_queue suspected_errors write_queue",
    "review.summary": "review_lines review_summary",
    "quality.gate": "GateMissed check_gate load_gate show_gate",
    "quality.noise": "likely_label_errors",
    "quality.prevalence": "class_prevalence",
    "quality.slices": "find_slices length_slices value_slices",
    "tasks.questions": "ABSTAIN LabelValues parse_label_map",
    "tasks.spec": "TaskSpec load_task",
    "teachers.batches": "write_batch",
    "teachers.endpoint": "EndpointTeacher",
    "teachers.kinds": "load_teacher",
    "teachers.local": "TransformersTeacher",
    "teachers.prompting": "PromptEncoder",
    "teachers.recorded": "RecordedTeacher",
    "teachers.vllm": "VLLMTeacher",
    "training.compared": "compare_students read_evaluation",
    "training.seeds": "train_seeds",
    "training.students": "StudentLabeler",
    "training.active": "is_flat next_to_annotate student_silver",
    "training.mixing": "MixCallback",
    "training.backends": "fastest_backend",
    "training.embeddings": "embed_texts",
    "training.evaluation": "evaluate_student",
    "training.folds": "out_of_fold",
    "training.train": "train_student",
    "training.trainer": "StudentConfig StudentTrainer",
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [*sorted(_HOMES), "__version__"]  # noqa: PLE0604  (names only)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used, so that importing the package costs nothing."""
    if name not in _HOMES:
        raise AttributeError(f"module 'hf_llambert' has no attribute '{name}'")
    return getattr(importlib.import_module(f"hf_llambert.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
