"""Distributions as text: ``fixed:128``, ``uniform:64,128``, ``lognormal:161,0.8``, ``zipf:1.5,1000``, and so on.

A bare number is fixed. The draws are in another module, so that a command line can check a text without loading NumPy.
"""

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

HELP = "a number, or fixed:N, uniform:LOW,HIGH, lognormal:MEAN,SIGMA[,MOST], zipf:EXPONENT,MOST, exponential:MEAN"

# How many numbers each kind takes.
KINDS: dict[str, tuple[int, ...]] = {
    "fixed": (1,),
    "uniform": (2,),
    "lognormal": (2, 3),
    "zipf": (2,),
    "exponential": (1,),
}


@dataclass(frozen=True, slots=True)
class ParsedDistribution:
    """A distribution's name and its numbers, which are finite and not negative."""

    kind: str
    numbers: tuple[float, ...]


def parse_spec(text: str) -> ParsedDistribution:
    """Read a distribution. Raises a ValueError that says what is wrong."""
    kind, colon, rest = text.partition(":")
    if not colon:
        kind, rest = "fixed", text
    try:
        numbers = tuple(float(number) for number in rest.split(","))
    except ValueError:
        raise ValueError(f"{text!r} is not a distribution: {HELP}") from None
    if len(numbers) not in KINDS.get(kind, ()) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"{text!r} is not a distribution: {HELP}")
    if min(numbers) < 0:
        raise ValueError(f"{text!r} has a negative number")
    if problem := _problem(kind, numbers):
        raise ValueError(f"{text!r}: {problem}")
    return ParsedDistribution(kind, numbers)


def _problem(kind: str, numbers: tuple[float, ...]) -> str | None:
    if kind == "uniform" and numbers[1] < numbers[0]:
        return "the bounds are the wrong way round"
    if kind == "lognormal" and numbers[0] == 0:
        return "the mean is above 0"
    if kind == "zipf" and numbers[1] < 1:
        return "the most is at least 1"
    return None


def _checked(text: str) -> str:
    parse_spec(text)
    return text


DistributionSpec = Annotated[str, AfterValidator(_checked)]
