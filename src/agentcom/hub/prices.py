"""The price list of this hub: the operator's own lines, then those that come with the program."""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

import msgspec

from agentcom.core.prices import Price, Prices

FILE: Final = "prices.toml"


def load(own: Mapping[str, Price]) -> Prices:
    """Return the price list; a model that matches a line of `own` is priced by that."""
    return Prices(own, _ours())


@cache
def _ours() -> Mapping[str, Price]:
    text = (resources.files("agentcom.hub") / FILE).read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Price])
