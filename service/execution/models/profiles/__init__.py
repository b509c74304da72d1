"""Profiles: what a model needs for good answers by itself, one file for each, found by the model's name.

A value is for requests that leave it out. What the model's own files say goes before it.
"""

import tomllib
from fnmatch import fnmatch
from importlib import resources
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.core.messages.sampling import RepetitionDetection

REPETITION_DETECTION = RepetitionDetection(max_pattern_size=256, min_pattern_size=8, min_count=4)  # for any model


class Profile(BaseModel):
    """One model's profile. ``names``: patterns of the names of its files and folders, without regard to case.

    ``sampling``: by the names of `SamplingParams`. ``default_max_tokens``: of an answer; None: all that is left.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)

    names: tuple[str, ...] = ()
    default_max_tokens: Annotated[int, Field(ge=1)] | None = None
    sampling: dict[str, float] = {}
    repetition_detection: RepetitionDetection | None = None


def profile_of(name: str) -> Profile:
    """Return the profile of the model with this name, one without values if there is none."""
    for file in sorted(resources.files(__name__).iterdir(), key=lambda file: file.name):
        if file.name.endswith(".toml"):
            profile = Profile.model_validate(tomllib.loads(file.read_text(encoding="utf-8")))
            if any(fnmatch(name.lower(), pattern.lower()) for pattern in profile.names):
                return profile
    return Profile()
