"""Which GGUF file of a repository is meant: most hold the same model in several quantisations."""

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

from service.errors import ModelLoadError
from service.execution.models.hub.name import HubName

# Taken in this order if the name says none: llama.cpp's choice, then what is kept as it is and loses little.
PREFERRED = ("Q4_K_M", "Q8_0", "Q4_0")

_PART_OF_SEVERAL = re.compile(r"-\d{5}-of-\d{5}\.gguf$")
_NO_LANGUAGE_MODEL = re.compile(r"(^|/)(mmproj|imatrix)[^/]*$", re.IGNORECASE)
_MOST_NAMED = 8


def choose_gguf(name: HubName, files: Iterable[str]) -> str:
    """Return the one file of ``files`` that ``name`` means. Raises `ModelLoadError`, which says what there is."""
    models = sorted(file for file in files if file.endswith(".gguf") and not _NO_LANGUAGE_MODEL.search(file))
    if name.file is not None and _PART_OF_SEVERAL.search(name.file):
        raise ModelLoadError(f"{name.file} is one of several parts, which are not read: choose a model in one file")
    whole = [file for file in models if not _PART_OF_SEVERAL.search(file)]
    if not whole:
        raise ModelLoadError("there is neither a GGUF file nor config.json with safetensors, which is what is served")
    found = _meant(name.file, whole)
    if len(found) != 1:
        problem = "which of its files" if name.file is None else f"{len(found)} of its files are {name.file}"
        raise ModelLoadError(f"{problem}? Name one, as {name.repository}:{whole[0]}; {_listed(whole)}")
    return found[0]


def _meant(asked: str | None, files: list[str]) -> list[str]:
    if asked in files:
        return [asked]
    if asked is not None:
        return _ending(asked, files)
    if len(files) == 1:
        return files
    return next((found for each in PREFERRED if len(found := _ending(each, files)) == 1), [])


def _ending(quantisation: str, files: list[str]) -> list[str]:
    return [file for file in files if PurePosixPath(file).stem.lower().endswith(quantisation.lower())]


def _listed(files: list[str]) -> str:
    more = len(files) - _MOST_NAMED
    return "there are " + ", ".join(files[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
