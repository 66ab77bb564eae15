"""Every code of the error tree comes back as its own class."""

import pytest

from agentcom.client.problems import Refused, error_of, error_of_response
from agentcom.model import errors
from agentcom.model.errors import AgentComError
from agentcom.transport.problem import problem_bytes

TREE: list[AgentComError] = [
    errors.InvalidInput("title", "too long: cut it"),
    errors.MalformedInput("no JSON"),
    errors.TooLarge("big"),
    errors.Unsupported("what"),
    errors.CursorAhead("after", "the newest is 3"),
    errors.MailboxFull("later"),
    errors.NotAuthenticated("who"),
    errors.NotAllowed("no"),
    errors.NotFound("none"),
    errors.Conflict("both"),
    errors.KeyReused("again"),
    errors.NameTaken("mine"),
    errors.IllegalTransition("completed", "cancel"),
    errors.AskOver("answered"),
    errors.LockCycle("round"),
    errors.LockOver("gone"),
    errors.Stale("old"),
    errors.Superseded("newer"),
    errors.RateLimited("slow", 2_000),
    errors.TooManyAsks("many"),
    errors.TooManyLocks("many"),
    errors.StorageFull("full"),
    errors.Unavailable("soon"),
    errors.Timeout("late"),
    errors.Fault("ours"),
    errors.StoreRefused("damaged"),
]


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.code)
def test_a_code_becomes_its_class_again(error: AgentComError) -> None:
    after_ms = error.retry_after_ms if isinstance(error, errors.RateLimited) else None

    for again in (
        error_of(error.code, error.message, retry_after_ms=after_ms),
        error_of_response(error.status, problem_bytes(error)),
    ):
        assert type(again) is type(error)
        assert vars(again) == vars(error)
        assert again.message == error.message


def test_the_tree_above_is_whole() -> None:
    def below(kind: type[AgentComError]) -> set[type[AgentComError]]:
        return {kind}.union(*map(below, kind.__subclasses__()))

    ours = {kind for kind in below(AgentComError) if kind.__module__ == errors.__name__}
    coded = {kind for kind in ours if "code" in vars(kind)}  # another's code is read as that one
    assert coded - {AgentComError} == {type(error) for error in TREE}


def test_a_code_of_the_future_is_kept() -> None:
    error = error_of("sunspots", "wait")

    assert isinstance(error, Refused)
    assert (error.code, error.message, AgentComError.code) == ("sunspots", "wait", "error")


@pytest.mark.parametrize(
    ("status", "kind"), [(404, errors.NotFound), (503, errors.Unavailable), (418, Refused)]
)
def test_an_answer_that_is_no_problem_document_is_told_by_its_status(
    status: int, kind: type[AgentComError]
) -> None:
    for body in (b"<html>", b"", b"\xff"):
        assert type(error_of_response(status, body)) is kind
