"""What is wrong with a request, as RFC 9457 has it: one sentence that says what to do, and the row that it is about."""

from http import HTTPStatus

import msgspec
from msgspec import UNSET, Struct, UnsetType
from starlette.responses import Response

PROBLEM_TYPE = "application/problem+json"


class ProblemDetails(Struct, frozen=True, omit_defaults=True):
    """The body of every answer that isn't 2xx. `row` counts from 1: a reading, a line or an event."""

    title: str
    status: int
    detail: str
    row: int | UnsetType = UNSET


class Problem(Exception):
    """A request that is not taken, and nothing of it. `headers` are added to the answer's."""

    def __init__(
        self, status: int, detail: str, *, row: int | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.row, self.headers = status, detail, row, headers or {}


def problem_response(problem: Problem) -> Response:
    """The answer that says it."""
    phrase = HTTPStatus(problem.status).phrase
    body = ProblemDetails(phrase, problem.status, problem.detail, UNSET if problem.row is None else problem.row)
    return Response(msgspec.json.encode(body), problem.status, problem.headers, PROBLEM_TYPE)
