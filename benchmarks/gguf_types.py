"""
A GGUF file's model again with its matrices in another type, so that engines are compared on the same weights.

    python benchmarks/gguf_types.py SmolLM2-135M-Instruct.Q4_1.gguf build/engines/SmolLM2-135M-Instruct.F16.gguf F16

The types are those that the gguf package writes: F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0 and Q5_1. Norms stay in float32.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
from gguf.quants import dequantize, quantize

_TYPES = ("F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
_FILE_TYPES = {"F32": "ALL_F32", **{name: f"MOSTLY_{name}" for name in _TYPES}}


def rewrite(source: Path, target: Path, name: str) -> None:
    """Write `source` to `target`, whole or not at all, with its matrices in the type of that name."""
    if name not in _FILE_TYPES:
        raise ValueError(f"The type must be one of {', '.join(_FILE_TYPES)}, got {name!r}.")
    kind = GGMLQuantizationType[name]
    reader = GGUFReader(source)
    part = target.with_suffix(".part")
    writer = GGUFWriter(part, str(reader.fields["general.architecture"].contents()))
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        of_items = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=of_items)
    writer.add_file_type(LlamaFileType[_FILE_TYPES[name]])
    for tensor in reader.tensors:
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        if values.ndim < 2 or name == "F32":
            writer.add_tensor(tensor.name, values)
        elif name == "F16":
            writer.add_tensor(tensor.name, values.astype(np.float16))
        else:
            writer.add_tensor(tensor.name, quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(target)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("Usage: python benchmarks/gguf_types.py SOURCE.gguf TARGET.gguf TYPE")
    rewrite(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
