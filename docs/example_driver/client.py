"""The only importer of the vendor library, which is httpx here. Sets the deadline and translates every error, in one place."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from docs.example_driver.spec import BoardConfig
from reconciler.driver import Scope
from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject


@contextmanager
def _translated(about: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        code, headers = error.response.status_code, error.response.headers
        if code == 429 or code >= 500:
            wish = headers.get("retry-after", "")
            raise Transient(f"{about}: the board answered {code}", retry_after=float(wish) if wish.isdecimal() else None) from None
        raise Permanent(f"{about}: the board answered {code}; check the token and the note") from None
    except httpx.HTTPError as error:
        raise Transient(f"{about}: no answer ({type(error).__name__})") from None


class Client:
    """Four calls, none of which is repeated here."""

    def __init__(self, config: BoardConfig) -> None:
        headers = {"authorization": f"Bearer {config.token.get_secret_value()}"}
        self._http = httpx.Client(base_url=config.url, headers=headers, timeout=config.timeout, trust_env=False)

    def notes(self, scope: Scope) -> list[JSONObject]:
        """List every note. Raises Transient when the listing is not complete."""
        answer = self._call("GET", "/notes", "board", scope)
        if len(answer["notes"]) != answer["total"]:
            raise Transient("board: the listing is not complete")
        return list(answer["notes"])

    def write(self, number: int | None, note: JSONObject, about: str, scope: Scope) -> None:
        """Make a note, or change the one with this number."""
        self._call("POST" if number is None else "PUT", "/notes" if number is None else f"/notes/{number}", about, scope, note)

    def delete(self, number: int, about: str, scope: Scope) -> None:
        """Take a note off the board."""
        self._call("DELETE", f"/notes/{number}", about, scope)

    def _call(self, method: str, path: str, about: str, scope: Scope, body: JSONObject | None = None) -> JSONObject:
        with _translated(about), scope.span(f"{method} {path}"):
            answer: JSONObject = self._http.request(method, path, json=body).raise_for_status().json()
            return answer

    def close(self) -> None:
        """Close the connections."""
        self._http.close()
