"""What a stand-in forge knows of its kind's documentation: requests, and how they are answered."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentcom.testing.forge.state import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request, checked against its route."""

    names: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a route says; `rows` is a list that is given page by page."""

    body: Any = None
    status: int = 200
    rows: Sequence[Any] | None = None
    within: str | None = None
    """The field of the page that holds the rows, if the page is an object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One documented request."""

    method: str
    path: str
    """With `{name}` for what varies."""
    answer: Callable[[Repository, Asked], Answer]
    query: Sequence[str] = ()
    fields: Mapping[str, type] = field(default_factory=dict)
    """Of the body; those that must be there end with `!`."""

    @property
    def pattern(self) -> re.Pattern[str]:
        """What its path looks like."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How one kind of forge speaks."""

    prefix: str
    routes: Sequence[Route]
    header: str
    """What stands before the token in `authorization`."""
    page_name: str
    gives_etags: bool = True
