"""Reading one file of rows: Parquet, JSON, CSV or Arrow, compressed or not, by exactly the name it has."""

from hf_llambert.reading.columns import (
    MixedTypes,
    check_labels,
    fitted,
    has_no_fields,
    is_wider,
    joined_schema,
    plain_schema,
    plain_types,
    refuse_look_alikes,
)
from hf_llambert.reading.formats import PLAIN, FileFormat
from hf_llambert.reading.tables import read_parquet, read_tables, suited

__all__ = [
    "PLAIN",
    "FileFormat",
    "MixedTypes",
    "check_labels",
    "fitted",
    "has_no_fields",
    "is_wider",
    "joined_schema",
    "plain_schema",
    "plain_types",
    "read_parquet",
    "refuse_look_alikes",
    "read_tables",
    "suited",
]
