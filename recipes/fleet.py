"""
Label a pool by datatrove's executors: on this machine, on a Slurm cluster or on Ray.

    python recipes/fleet.py --student runs/mine/student --data corpus --output labelled --tasks 8 --workers 2
    python recipes/fleet.py --student runs/mine/student --data corpus --output labelled --tasks 1000 \\
        --executor slurm --partition gpu --time 04:00:00 --gpus_per_task 1
    python recipes/fleet.py --student runs/mine/student --data corpus --output labelled --tasks 100 --executor ray

Needs `pip install 'hf-llambert[fleet]'` (for Ray also `datatrove[ray]`). Run again, tasks that are complete are skipped.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from trl import TrlParser

from hf_llambert import StudentStep, keep_empty_texts


@dataclass
class FleetArguments:
    """What the recipe does."""

    student: str = field(metadata={"help": "Directory or Hub id of a student, at the same place on every machine."})
    data: str = field(metadata={"help": "Folder of Parquet files; a file is the unit of work."})
    output: str = field(metadata={"help": "Folder of the labelled files and of the logs."})
    tasks: int = field(default=1, metadata={"help": "Tasks; at most as many as files."})
    workers: int = field(default=-1, metadata={"help": "Tasks that run at once. Default: all."})
    executor: str = field(default="local", metadata={"help": "local, slurm or ray."})
    text_column: str = field(default="text", metadata={"help": "Column of the texts."})
    id_column: str = field(default="id", metadata={"help": "Column of the ids, if there is one."})
    partition: str = field(default="", metadata={"help": "Slurm: the partition."})
    time: str = field(default="04:00:00", metadata={"help": "Slurm: time for a task."})
    cpus_per_task: int = field(default=1, metadata={"help": "Slurm and Ray: cores of a task."})
    mem_per_cpu_gb: int = field(default=4, metadata={"help": "Slurm and Ray: memory for each core."})
    gpus_per_task: int = field(default=0, metadata={"help": "Slurm: GPUs of a task."})
    venv: str | None = field(
        default=None, metadata={"help": "Slurm: the environment's bin/activate. Default: this one's."}
    )


def main(arguments: FleetArguments) -> None:
    """Put the pipeline together and hand it to the executor."""
    from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    files = sorted(Path(arguments.data).glob("**/*.parquet"))
    if not files:
        raise FileNotFoundError(f"'{arguments.data}' holds no .parquet file.")
    if not 0 < arguments.tasks <= len(files):
        raise ValueError(f"tasks must be from 1 to {len(files)}, the number of files, got {arguments.tasks}.")
    schema = pq.read_schema(files[0])
    if arguments.text_column not in schema.names:
        raise ValueError(f"Column '{arguments.text_column}' not found in {schema.names}. Pass --text_column.")
    student = StudentStep(arguments.student)
    reader = ParquetReader(
        arguments.data, text_key=arguments.text_column, id_key=arguments.id_column, adapter=keep_empty_texts
    )
    writer = ParquetWriter(str(Path(arguments.output) / "data"), expand_metadata=True, schema=student.schema())
    shared = {
        "tasks": arguments.tasks,
        "workers": arguments.workers,
        "logging_dir": str(Path(arguments.output) / "logs"),
    }
    sizes = {"cpus_per_task": arguments.cpus_per_task, "mem_per_cpu_gb": arguments.mem_per_cpu_gb}
    pipeline = [reader, student, writer]
    if arguments.executor == "local":
        LocalPipelineExecutor(pipeline, **shared).run()
    elif arguments.executor == "ray":
        RayPipelineExecutor(pipeline, **shared, **sizes).run()
    elif arguments.executor == "slurm":
        if not arguments.partition:
            raise ValueError("Slurm needs a partition: pass --partition.")
        SlurmPipelineExecutor(
            pipeline, **shared, **sizes, job_name="hf-llambert", partition=arguments.partition, time=arguments.time,
            gpus_per_task=arguments.gpus_per_task, venv_path=arguments.venv or str(Path(sys.prefix) / "bin" / "activate"),
        ).run()  # fmt: skip
    else:
        raise ValueError(f"executor must be local, slurm or ray, got {arguments.executor!r}.")


if __name__ == "__main__":
    try:
        main(*TrlParser(FleetArguments).parse_args_and_config())
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"Error: {error}")
