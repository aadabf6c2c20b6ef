"""Columns of tables: types that `datasets` knows, one schema for the rows of several files, label names that agree."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress

import pyarrow as pa

from hf_llambert.tasks.label_names import look_alikes


def plain_types(table: pa.Table) -> pa.Table:
    """
    The same table with its views of strings and bytes as plain strings and bytes, which `datasets` knows, and its
    dictionaries (categories of pandas) as what they stand for, its maps as lists of keys and values.
    """
    schema = plain_schema(table.schema)
    return table if schema == table.schema else table.cast(schema)


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The schema of [`plain_types`]."""
    return pa.schema([field.with_type(_plain(field.type)) for field in schema], schema.metadata)


def _plain(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.large_string()
    if pa.types.is_binary_view(kind):
        return pa.large_binary()
    if pa.types.is_map(kind):
        return pa.list_(_plain(pa.struct([kind.key_field, kind.item_field])))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_plain(field.type)) for field in kind])
    return _plain_list(kind) if is_any_list(kind) else kind


def _plain_list(kind: pa.DataType) -> pa.DataType:
    one = kind.value_field.with_type(_plain(kind.value_type))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(one, kind.list_size)
    return pa.large_list(one) if pa.types.is_large_list(kind) else pa.list_(one)


def is_any_list(kind: pa.DataType) -> bool:
    """Whether a type is of lists, long or not, of one size or not."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def has_no_fields(kind: pa.DataType) -> bool:
    """Whether a type is, or holds, that of objects of which none has a field."""
    if pa.types.is_struct(kind):
        return not kind.num_fields or any(has_no_fields(field.type) for field in kind)
    return is_any_list(kind) and has_no_fields(kind.value_type)


def check_labels(seen: dict[str, tuple[str, object]], schema: pa.Schema, name: str) -> None:
    """
    Check that files number the names of their labels alike; otherwise rows would get wrong names.

    Args:
        seen (`dict`): Of each column, the file that has it first and the names of its labels; what is new is added.
        schema (`pa.Schema`): Columns of the next file, with the notes of `datasets`.
        name (`str`): The next file.

    Raises:
        MixedTypes: They do not.
    """
    features: dict[str, object] = {}
    with suppress(ValueError, KeyError, TypeError, AttributeError, RecursionError):
        features.update(json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"])
    for column in schema:
        if pa.types.is_null(column.type):
            continue
        names = _label_names(features.get(column.name))
        first, known = seen.setdefault(column.name, (name, names))
        if names != known:
            raise MixedTypes(
                column.name,
                f"column '{column.name}' holds {_labels_said(names)} where '{first}' holds {_labels_said(known)}. Read the "
                f"files one by one, or write them with the same ClassLabel names",
            )


def _label_names(feature: object) -> object:
    """The names of all `ClassLabel` in a feature, as `datasets` notes it."""
    if isinstance(feature, list):
        return [found for part in feature if (found := _label_names(part))]
    if not isinstance(feature, dict):
        return []
    if feature.get("_type") == "ClassLabel":
        return [feature.get("names")]
    return [found for part in feature.values() if (found := _label_names(part))]


def _labels_said(names: object) -> str:
    return f"a ClassLabel of {names}" if names else "no ClassLabel"


class MixedTypes(ValueError):
    """A column has types that do not go together."""

    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def refuse_look_alikes(first: Sequence[str], second: Sequence[str]) -> None:
    """Raise `ValueError` where a column of a file is called as one of those before it but for case, blanks or invisible signs."""
    for name in second:
        if name not in first and (like := [n for n in look_alikes(name, first) if n not in second]):
            raise ValueError(
                f"it has the column {name!r}, and files before it {like[0]!r}, which would be two columns with gaps. Give them "
                f"one name"
            )


def joined_schema(first: pa.Schema, second: pa.Schema) -> pa.Schema:
    """
    One schema for the rows of two, as written to one table: the columns of both, null and whole numbers widened to the
    other's type.

    Raises:
        MixedTypes: A column has types that do not go together; the message names it and both types.
    """
    fields = {field.name: field for field in first}
    for field in second:
        known = fields.get(field.name, field)
        try:
            wide = pa.unify_schemas([pa.schema([known]), pa.schema([field])], promote_options="permissive").field(0)
            if not (_is_kept(known.type, wide.type) and _is_kept(field.type, wide.type)):
                raise pa.ArrowTypeError("values would be others")
            fields[field.name] = wide
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise MixedTypes(field.name, f"column '{field.name}' holds {field.type}, expected {known.type}") from error
    return pa.schema(list(fields.values()), first.metadata)


def _is_kept(kind: pa.DataType, wide: pa.DataType) -> bool:
    """Whether values stay what they are in a type that Arrow calls wider: no text as bytes, no decimal as a binary number."""
    if pa.types.is_struct(kind):
        return all(_is_kept(field.type, wide.field(field.name).type) for field in kind)
    if is_any_list(kind):
        return _is_kept(kind.value_type, wide.value_type)
    is_text, is_decimal = (is_kind(kind) for is_kind in (_is_text, pa.types.is_decimal))
    return not (is_text and not _is_text(wide)) and not (is_decimal and not pa.types.is_decimal(wide))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_wider(kept: pa.DataType, read: pa.DataType) -> bool:
    """Whether a type is another, or takes all values of another as they are, such as int64 those of int32."""
    kept, read = _bare(kept), _bare(read)
    with suppress(MixedTypes):
        one, other = (pa.schema([pa.field("it", kind)]) for kind in (kept, read))
        return joined_schema(one, other).field(0).type == kept
    return False


def _bare(kind: pa.DataType) -> pa.DataType:
    """A type without what makes no difference to its values: how long its offsets are, what the parts of lists are called."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_bare(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _bare(field.type)) for field in kind])
    return kind


def fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """A table with the columns and types of [`joined_schema`]; columns that it has not are null."""
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
