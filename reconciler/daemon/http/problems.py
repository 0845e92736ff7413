"""What the API says when it cannot do what it was asked: problem documents (RFC 9457), in words that help and tell nothing secret."""

from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

TYPE = "application/problem+json"


class Trouble(Exception):
    """A request that cannot be done. ``errors`` names each field that is wrong."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None) -> None:
        """Keep what the answer will say."""
        self.status, self.detail, self.errors, self.headers = status, detail, errors or [], headers or {}
        super().__init__(detail)


def problem(status: int, detail: str, errors: list[dict[str, str]] | None = None, headers: dict[str, str] | None = None) -> Response:
    """Make the document."""
    body: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if errors:
        body["errors"] = errors
    return JSONResponse(body, status, media_type=TYPE, headers={"cache-control": "no-store", **(headers or {})})


async def on_http_error(request: Request, error: Exception) -> Response:
    """Answer what no route takes: 404, or 405 with the methods that are taken."""
    status = int(getattr(error, "status_code", 500))
    return problem(status, HTTPStatus(status).phrase.lower(), headers=dict(getattr(error, "headers", None) or {}))


async def on_bug(request: Request, error: Exception) -> Response:
    """Answer for a bug of ours; the log has the rest."""
    return problem(500, f"bug: {type(error).__name__}; see the log")
