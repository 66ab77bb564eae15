"""How each dialect words an error."""

from typing import Final, NamedTuple, assert_never

from agentcom.testing.mock_llm.conversation import Dialect, Json
from agentcom.testing.scenario import FailureKind

RETRY_AFTER_S: Final = 1


class Wording(NamedTuple):
    """One failure: HTTP status, the words of three providers, and the message."""

    status: int
    openai: str
    anthropic: str
    google: str
    message: str


def wording(kind: FailureKind) -> Wording:
    """Return how providers say `kind`."""
    match kind:
        case "auth":
            said = "Incorrect API key provided."
            return Wording(401, "invalid_api_key", "authentication_error", "UNAUTHENTICATED", said)
        case "quota":
            said = "You exceeded your current quota, please check your plan and billing details."
            return Wording(
                429, "insufficient_quota", "rate_limit_error", "RESOURCE_EXHAUSTED", said
            )
        case "rate_limit":
            said = "Rate limit reached for requests."
            return Wording(
                429, "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED", said
            )
        case "model_unavailable":
            said = "The server had an error while processing your request."
            return Wording(500, "server_error", "api_error", "INTERNAL", said)
        case "context_full":
            said = "prompt is too long: the input exceeds the context window of this model."
            return Wording(
                400,
                "context_length_exceeded",
                "invalid_request_error",
                "INVALID_ARGUMENT",
                said,
            )
        case "refused":
            said = "Invalid prompt: it was flagged as potentially violating our usage policy."
            return Wording(400, "invalid_prompt", "invalid_request_error", "INVALID_ARGUMENT", said)
        case "agent":
            said = "The request is not valid."
            return Wording(
                400, "invalid_request", "invalid_request_error", "INVALID_ARGUMENT", said
            )
        case _:
            assert_never(kind)


def body(dialect: Dialect, kind: FailureKind, says: str = "") -> Json:
    """Return the error body of `kind` as the dialect's provider writes it."""
    words = wording(kind)
    words = words._replace(message=says or words.message)
    match dialect:
        case "chat" | "responses":
            error = {"message": words.message, "type": words.openai, "code": words.openai}
            return {"error": {**error, "param": None}}
        case "messages":
            return {"type": "error", "error": {"type": words.anthropic, "message": words.message}}
        case "generate":
            about = {"code": words.status, "message": words.message, "status": words.google}
            return {"error": about}
        case _:
            assert_never(dialect)


def headers(kind: FailureKind) -> tuple[tuple[str, str], ...]:
    """Return the extra header lines of `kind`."""
    return (("retry-after", str(RETRY_AFTER_S)),) if kind == "rate_limit" else ()
