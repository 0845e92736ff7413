"""The only importer of the vendor's library: calls with deadlines, and every foreign failure turned into one of ours."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property

import httpx
from cloudflare import APIConnectionError, APIStatusError, APITimeoutError, Cloudflare, CloudflareError, DefaultHttpxClient, RequestOptions

from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import JSONObject, SecretValue
from reconciler.writing import may_write
from reconciler_cloudflare.config import Config
from reconciler_cloudflare.pace import pace_of

API_VERSION = "2026-08-01"
"""Sent with every call; the library's default is the day of the call, so that answers could change overnight."""
PAGE = 5000
AUDIT_PAGE = 1000
AUDIT_TIMEOUT = 5.0
"""Seconds that the audit log may take at most: what it knows is welcome, and not worth a longer wait."""
WINDOW = 300.0
"""Seconds for which Cloudflare refuses a credential that called too often, where it does not say."""
READ, WRITE, ZONE, ACCOUNT = "DNS Read", "DNS Write", "Zone Read", "Account Settings Read"
"""Permissions of a token, as the dashboard calls them."""
STATE_LASTS = 3600.0
"""Seconds for which the state of a zone is not asked for again: it changes by a person's hand, a few times in its life."""
_LEFT = re.compile(r"\br=(\d+);t=(\d+(?:\.\d+)?)")


UNKNOWN_TOKEN = frozenset({6003, 6111, 9106, 9109})
"""Codes of a token that is malformed, missing or not valid."""


class Refusal(Permanent):
    """Cloudflare looked at the request itself and said no. ``codes`` are its error codes, those inside a chain included."""

    def __init__(self, message: str, codes: frozenset[int]) -> None:
        """Keep the codes beside the message."""
        self.codes = codes
        super().__init__(message)


def _vendor_client(config: Config, listen: Callable[[httpx.Response], None]) -> Cloudflare:
    """Build the vendor's client with the token as its only credential.

    The library reads CLOUDFLARE_EMAIL, CLOUDFLARE_API_KEY and others from the environment, and then leaves the token out.
    """
    client = Cloudflare(
        api_token=config.token.get_secret_value(),
        base_url=config.base_url,
        api_version=API_VERSION,
        max_retries=0,
        timeout=httpx.Timeout(config.timeout, connect=min(5.0, config.timeout)),
        http_client=DefaultHttpxClient(event_hooks={"response": [listen]}),
    )
    client.api_email = client.api_key = client.user_service_key = None
    client._custom_headers = {}  # what CLOUDFLARE_CUSTOM_HEADERS put there
    return client


class Client:
    """The calls that the driver needs. Every one raises Transient, Permanent or Refusal, and nothing else."""

    def __init__(self, config: Config) -> None:
        """Prepare; the connection is made at the first call."""
        self._config = config
        self._pace = pace_of(config.base_url, config.token.get_secret_value())
        self._pace.join(self, config.requests_per_second)
        self._token = SecretValue(config.token.get_secret_value())
        self._zones: dict[str, tuple[JSONObject | str, float]] = {}
        self._ids = {name: id for name, id in config.zones.items() if id}

    @cached_property
    def _api(self) -> Cloudflare:
        return _vendor_client(self._config, self._heed)

    def _heed(self, response: httpx.Response) -> None:
        """Note how many calls the server says are left."""
        said = _LEFT.search(response.headers.get("ratelimit", ""))
        if said is not None:
            self._pace.heed(int(said[1]), float(said[2]))

    def close(self) -> None:
        """Close the connections, if there are any, and hold up nobody else any more."""
        self._pace.leave(self)
        if "_api" in self.__dict__:
            self._api.close()

    def zone_id(self, name: str) -> str:
        """Give a zone's id, looked up once. Raises Permanent when the token sees no such zone."""
        if name not in self._ids:
            found = self._get("/zones", {"name": name}, f"zone {name}", ZONE)["result"]
            exact = [zone["id"] for zone in found if zone["name"] == name]
            if not exact:
                advice = "give it the permission Zone Read, or set the zone's id in `zones`"
                raise Permanent(f"cloudflare: zone {name} is not visible to this token; {advice}")
            self._ids[name] = exact[0]
        return self._ids[name]

    def records(self, zone: str) -> list[JSONObject]:
        """List every record of a zone, by name of the zone. Raises Transient when the listing is not complete."""
        path, found, pages, page = f"/zones/{self.zone_id(zone)}/dns_records", dict[str, JSONObject](), 1, 1
        total = 0
        while page <= pages:
            answer = self._get(path, {"per_page": PAGE, "page": page}, f"zone {zone}", READ)
            info = answer.get("result_info") or {}
            pages, total = int(info.get("total_pages") or 1), int(info.get("total_count", -1))
            found |= {record["id"]: record for record in answer["result"]}
            page += 1
        if len(found) != total:
            raise Transient(f"cloudflare: zone {zone} has {total} records, but the listing holds {len(found)}")
        return list(found.values())

    def usage(self, zone: str) -> tuple[int | None, int]:
        """Give (quota, records in use) of a zone; no quota where the account has a common one."""
        result = self._get(f"/zones/{self.zone_id(zone)}/dns_records/usage", {}, f"zone {zone}", READ)["result"]
        return result.get("record_quota"), int(result["record_usage"])

    def audit_log(self, zone: str, since: str = "") -> list[JSONObject]:
        """List what the account's audit log says of a zone, newest first, one page at most; ``since`` a time or from its beginning."""
        query = {"zone.name": zone, "direction": "desc", "per_page": AUDIT_PAGE} | ({"since": since} if since else {})
        path = f"/accounts/{self._account(zone)}/audit_logs"
        return list(self._get(path, query, f"audit log of zone {zone}", ACCOUNT, self._courtesy)["result"] or ())

    def _account(self, zone: str) -> str:
        """Give the account that a zone belongs to, looked up once where the settings do not say."""
        return self._config.account or str(self._zone(zone)["account"]["id"])

    def trouble(self, zone: str) -> str:
        """Say why nobody asks a zone for its records, if the token may know. Asked for once an hour, and raises nothing."""
        try:
            found = self._zone(zone)
        except DriverError:
            return ""
        if found.get("status") not in (None, "active"):
            return f"the zone {zone} is {found['status']}, so its records are not asked for; point its name servers to Cloudflare"
        return f"the zone {zone} is paused, so nothing of it is proxied; unpause it in the dashboard" if found.get("paused") else ""

    def knows(self, zone: str) -> bool:
        """Say whether the state of a zone is known well enough not to be asked for."""
        return time.monotonic() < self._zones.get(zone, ({}, float("-inf")))[1]

    def _zone(self, zone: str) -> JSONObject:
        """Give what Cloudflare says of a zone, or said at most an hour ago; that it did not say it is kept for a shorter time."""
        if not self.knows(zone):
            try:
                found = self._get(f"/zones/{self.zone_id(zone)}", {}, f"zone {zone}", ZONE, self._courtesy)["result"]
                self._zones[zone] = found, time.monotonic() + STATE_LASTS
            except DriverError as error:
                self._zones[zone] = str(error), time.monotonic() + (STATE_LASTS if isinstance(error, Permanent) else WINDOW)
        known, _ = self._zones[zone]
        if isinstance(known, str):
            raise Permanent(known)
        return known

    @property
    def _courtesy(self) -> float:
        """Seconds for a call that is welcome and not worth a longer wait."""
        return min(self._config.timeout, AUDIT_TIMEOUT)

    def batch(self, zone: str, body: JSONObject) -> None:
        """Make changes in one transaction: all of them, or none and a Refusal that speaks of the first error only.

        A Transient means that the outcome may be unknown: look again before anything else.
        """
        path = f"/zones/{self.zone_id(zone)}/dns_records/batch"
        with self._call(f"zone {zone}", WRITE):
            may_write()
            _check(self._api.post(path, cast_to=object, body=body))

    def _get(self, path: str, query: Mapping[str, object], what: str, needs: str, timeout: float | None = None) -> JSONObject:
        options: RequestOptions = {"params": query} if timeout is None else {"params": query, "timeout": timeout}
        with self._call(what, needs):
            return _check(self._api.get(path, cast_to=object, options=options))

    @contextmanager
    def _call(self, what: str, needs: str) -> Iterator[None]:
        """Pace one call and translate whatever goes wrong in it. ``needs`` is the permission that it wants of the token."""
        self._pace.enter()
        try:
            yield
        except APITimeoutError:
            raise Transient(f"cloudflare: {what}: no answer in time; whether anything was done is not known") from None
        except APIConnectionError as error:
            cause = type(error.__cause__).__name__
            raise Transient(f"cloudflare: {what}: the connection failed ({cause}); whether anything was done is not known") from None
        except APIStatusError as error:
            raise self._translated(error, what, needs) from None
        except _Unsuccessful as error:
            raise Refusal(self._text(what, 200, error.body), _codes(error.body)) from None
        except (CloudflareError, httpx.HTTPError, KeyError, TypeError, ValueError) as error:
            raise Transient(f"cloudflare: {what}: the answer cannot be read ({type(error).__name__})") from None

    def _translated(self, error: APIStatusError, what: str, needs: str) -> Transient | Permanent:
        status, text = error.status_code, self._text(what, error.status_code, error.body)
        if status == 429:
            delay = _seconds(error.response.headers.get("retry-after"))
            self._pace.stop(delay)
            return Transient(text, retry_after=delay)
        if status >= 500 or status == 408:
            return Transient(text)
        if status == 409:
            return Conflict(text)
        codes = _codes(error.body)
        if codes & {7000, 7003}:
            return Permanent(f"{text}; check the zone's id in `zones`")
        if status == 401 or codes & UNKNOWN_TOKEN:
            return Permanent(f"{text}; the token is not known to Cloudflare, or has ended: make a new one")
        if status == 403:
            return Permanent(f"{text}; check that the token has the permission {needs} here, and that it has not ended")
        return Refusal(text, codes)

    def _text(self, what: str, status: int, body: object) -> str:
        said = "; ".join(f"{code} {message}" for code, message in _errors(body)) or "no reason given"
        return self._token.out_of(f"cloudflare: {what}: HTTP {status}: {said}")


class _Unsuccessful(Exception):
    """An answer with status 200 that says ``success: false``; the vendor's library lets it pass."""

    def __init__(self, body: object) -> None:
        self.body = body


def _check(answer: object) -> JSONObject:
    if not isinstance(answer, dict):
        raise TypeError("not a JSON object")
    if answer.get("success") is not True:
        raise _Unsuccessful(answer)
    return answer


def _errors(body: object) -> Iterator[tuple[int, str]]:
    """Yield code and text of every error, the specific ones of an ``error_chain`` after their general one."""
    errors = body.get("errors") if isinstance(body, dict) else None
    for error in errors or ():
        if isinstance(error, dict):
            yield int(error.get("code") or 0), str(error.get("message", ""))
            yield from _errors({"errors": error.get("error_chain")})


def _codes(body: object) -> frozenset[int]:
    return frozenset(code for code, _ in _errors(body))


def _seconds(header: str | None) -> float:
    try:
        return max(0.0, float(header or WINDOW))
    except ValueError:
        return WINDOW
