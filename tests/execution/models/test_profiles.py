"""What models need for good answers by themselves."""

import tomllib
from importlib import resources
from pathlib import Path

import pytest

from service.api.openai.schemas import SamplingFields, checked_defaults
from service.core.messages.sampling import SamplingParams
from service.execution.models import profiles
from service.execution.models.loading import default_model_path, open_model
from service.execution.models.profiles import Profile, profile_of

NAMES = ["SmolLM2-135M-Instruct", "smollm2-135m-instruct-Q8_0"]


def test_the_bundled_model_has_one() -> None:
    profile = open_model(default_model_path()).profile
    assert profile.sampling
    assert profile.default_max_tokens
    assert profile.repetition_detection


@pytest.mark.parametrize("name", NAMES)
def test_it_is_found_by_the_name_of_any_file_of_the_model(name: str) -> None:
    assert profile_of(name) == profile_of("SmolLM2-135M-Instruct.Q4_1")


def test_it_is_found_whoever_publishes_the_model(tiny_model_path: Path) -> None:
    assert open_model(tiny_model_path, "org/SmolLM2-135M-Instruct-GGUF").profile == profile_of(NAMES[0])


@pytest.mark.parametrize("name", ["SmolLM2-1.7B-Instruct", "Qwen3-0.6B", ""])
def test_other_models_have_none(name: str) -> None:
    assert profile_of(name) == Profile()


def test_all_that_profiles_ask_for_could_be_asked_for_by_a_request() -> None:
    files = [file for file in resources.files(profiles).iterdir() if file.name.endswith(".toml")]
    assert files
    for file in files:
        profile = Profile.model_validate(tomllib.loads(file.read_text()))
        assert profile.names
        assert checked_defaults(profile.sampling) == profile.sampling
        assert profile.sampling.keys() <= set(SamplingParams.__dataclass_fields__) & set(SamplingFields.model_fields)
