"""A teacher by the name of its kind, for the command line, YAML files and published datasets."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn, cast

import yaml

from hf_llambert.teachers.base import Teacher

KINDS = {
    "transformers": "local.TransformersTeacher",
    "vllm": "vllm.VLLMTeacher",
    "endpoint": "endpoint.EndpointTeacher",
    "recorded": "recorded.RecordedTeacher",
    "batch": "batch.BatchTeacher",
}


def teacher_class(kind: object) -> type:
    """
    The class of a kind of teacher.

    Raises:
        ValueError: There is no such kind; the message lists those that there are.
    """
    if kind not in KINDS:
        raise ValueError(f"No teacher of the kind {kind!r}. Expected one of {', '.join(KINDS)}.")
    module, name = KINDS[str(kind)].split(".")
    return getattr(importlib.import_module(f"hf_llambert.teachers.{module}"), name)


def make_teacher(settings: Mapping[str, object], source: str = "teacher") -> Teacher:
    """
    A teacher from its settings: `teacher` is the kind, the rest are the arguments of its class.

    Args:
        settings (`Mapping`): As [`Teacher.settings`] gives them, or a YAML file has them.
        source (`str`, defaults to `"teacher"`): What to call them in errors.

    Raises:
        ValueError: The kind or an argument is unknown, missing or wrong.
    """
    kind = settings.get("teacher", "transformers")
    arguments = {str(name): value for name, value in settings.items() if name != "teacher"}
    try:
        cls = teacher_class(kind)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    known = [field.name for field in dataclasses.fields(cls) if field.init]
    for name in arguments:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else f" It has {', '.join(known)}."
            raise ValueError(f"{source}: a teacher of the kind {kind!r} has no argument '{name}'.{hint}")
    try:
        return cast(Teacher, cls(**arguments))
    except TypeError as error:
        raise ValueError(f"{source}: {error}") from error


def load_teacher(path: str | Path) -> Teacher:
    """
    A teacher from a YAML file, such as

    ```yaml
    teacher: endpoint
    model: Qwen/Qwen3-8B
    base_url: http://localhost:8000/v1
    ```
    """
    try:
        settings = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ValueError(f"The teacher's file '{path}' cannot be read: {error}") from error
    if not isinstance(settings, Mapping):
        raise ValueError(f"{path}: expected a mapping with teacher (its kind) and model, got {settings!r}.")
    return make_teacher(settings, str(path))


def teacher_from_arguments(kind: str, arguments: Sequence[str], seed: int) -> Teacher:
    """
    A teacher from the words of a command line, such as `["--model", "our/model", "--mode", "score"]`.

    Raises:
        ValueError: The kind or an argument is unknown, missing or wrong.
    """
    from transformers import HfArgumentParser

    cls = teacher_class(kind)
    parser = HfArgumentParser(cls, allow_abbrev=False)  # type: ignore[arg-type]
    parser.error = _refuse  # type: ignore[method-assign]  # one sentence, not a page of usage
    given = {field.name: field.default for field in dataclasses.fields(cls)}  # the parser drops those of lists
    parser.set_defaults(**{name: value for name, value in given.items() if value is not dataclasses.MISSING})
    if "seed" in cls.__dataclass_fields__:  # type: ignore[attr-defined]
        parser.set_defaults(seed=seed)
    made, rest = parser.parse_args_into_dataclasses(args=_joined(arguments), return_remaining_strings=True)
    if rest:
        raise ValueError(f"Unknown arguments {rest} of a teacher of the kind {kind}. See docs/teachers.md.")
    return made


def _joined(arguments: Sequence[str]) -> list[str]:
    """The same arguments with `--recorded_map -1=negative` as one word, which argparse would take for two options."""
    out: list[str] = []
    for one in arguments:
        if out and re.fullmatch(r"--\w+_map", out[-1]) and re.match(r"-[^-]*=", one):
            out[-1] += f"={one}"
        else:
            out.append(one)
    return out


def _refuse(message: str) -> NoReturn:
    raise ValueError(f"{message[0].upper()}{message[1:]}. See docs/teachers.md.")
