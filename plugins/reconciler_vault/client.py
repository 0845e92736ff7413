"""The wire to Vault: one session, one token, deadlines, and the only place where foreign errors become ours.

The only importer of hvac and requests. Knows nothing of resources. Values pass through as request and answer bodies; no body is ever
put into a message, only the server's own ``errors`` list, and not even that where the request carried a value.
"""

import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import requests
from hvac.adapters import RawAdapter
from hvac.api.auth_methods import AppRole, Kubernetes, Token

from reconciler.driver import Scope
from reconciler.errors import Conflict, DriverError, Permanent, Transient
from reconciler.resource import JSONObject
from reconciler_vault.config import AppRoleAuth, KubernetesAuth, TokenAuth, TokenFileAuth, VaultConfig

MERGE = {"Content-Type": "application/merge-patch+json"}
CAPABILITY = {"GET": "read", "LIST": "list", "POST": "create and update", "PUT": "create and update", "PATCH": "patch", "DELETE": "delete"}
RENEW_AT = 2 / 3
"""Share of a token's life after which it is renewed."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a call came back with; ``body`` is empty when the answer is not a JSON object."""

    status: int
    body: JSONObject
    json: bool
    retry_after: float | None

    @property
    def errors(self) -> str:
        """The server's words, on one line."""
        listed = self.body.get("errors")
        words = "; ".join(str(item) for item in listed) if isinstance(listed, list) else ""
        return " ".join(words.split())


@dataclass(slots=True)
class _Token:
    """A token and when to renew or replace it, in seconds of the clock; None means that it does not end."""

    value: str
    renew_at: float | None = None
    dies_at: float | None = None
    renewable: bool = False


class Vault:
    """One identity at one server. Logs in when first needed and once per life of a token; nothing runs in the background."""

    def __init__(self, config: VaultConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the settings; nothing is sent yet. ``clock`` gives seconds."""
        self.config, self._clock, self._lock = config, clock, threading.RLock()
        self._session = requests.Session()
        self._session.trust_env = False  # no proxy, certificate bundle or .netrc that the settings do not name
        self._session.verify = str(config.ca_file) if config.ca_file else True
        self._adapter = RawAdapter(
            base_uri=config.url,
            token="",
            timeout=config.timeout,  # type: ignore[arg-type]  # requests takes fractions of a second
            session=self._session,
            namespace=config.namespace or None,
            ignore_exceptions=True,
            strict_http=True,  # a listing as GET ?list=true, because proxies stop the verb LIST
        )
        self._token: _Token | None = None

    @property
    def where(self) -> str:
        """Name the target in messages."""
        return f"vault {self.config.url}"

    def close(self) -> None:
        """Revoke a token that was made for us by a login, so that restarts leave none behind, and close the connections."""
        with self._lock, suppress(DriverError):
            if self._token is not None and isinstance(self.config.auth, KubernetesAuth | AppRoleAuth):
                self._self("revoke_self", self._token)
            self._token = None
        self._adapter.close()

    def get(self, path: str, scope: Scope, *, params: Mapping[str, str] | None = None) -> JSONObject | None:
        """Read ``path`` (below ``/v1/``); None when there is nothing. A deleted version counts as nothing."""
        reply = self._call("GET", path, scope, params=params)
        return None if reply.status == 404 else self._data(reply, f"GET {path}")

    def list(self, path: str, scope: Scope) -> list[str]:
        """List the names below ``path``; none when there is nothing."""
        reply = self._call("LIST", path, scope)
        return [] if reply.status == 404 else [str(key) for key in self._data(reply, f"LIST {path}").get("keys") or []]

    def write(self, method: str, path: str, body: Mapping[str, Any] | None, scope: Scope, *, sensitive: bool = False) -> JSONObject:
        """Send POST, PATCH or DELETE. ``sensitive`` keeps the server's words out of messages. Raises Permanent when there is nothing."""
        reply = self._call(method, path, scope, body=body, sensitive=sensitive)
        if reply.status == 404:
            raise Permanent(f"{self.where}: {method} {path}: nothing is there ({reply.errors or 'not found'}); check the mount")
        return self._data(reply, f"{method} {path}") if reply.json else {}

    def _data(self, reply: _Reply, what: str) -> JSONObject:
        """Give the answer's ``data``. Raises Transient for an answer that no Vault gives, for example a proxy's page."""
        if not reply.json:
            raise Transient(f"{self.where}: {what}: the answer is not JSON; is something else answering at this address?")
        data = reply.body.get("data")
        return data if isinstance(data, dict) else {}

    def _call(
        self,
        method: str,
        path: str,
        scope: Scope,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        sensitive: bool = False,
    ) -> _Reply:
        """Send one call with a good token. A 403 is repeated once, if it was the token that was bad: the server did nothing then."""
        with scope.span(f"{method} {path}", target=self.config.url):
            token = self._good_token()
            reply = self._send(method, path, token, body, params)
            if reply.status == 403 and self._replace_dead(token):
                reply = self._send(method, path, self._good_token(), body, params)
        if reply.status >= 400 and reply.status != 404:
            raise self._judge(method, path, reply, "" if sensitive else reply.errors)
        return reply

    def _send(self, method: str, path: str, token: _Token, body: Mapping[str, Any] | None, params: Mapping[str, str] | None) -> _Reply:
        headers: dict[str, str] = dict(MERGE) if method == "PATCH" else {}
        with self._translate(f"{method} {path}"), self._lock:
            self._adapter.token = token.value
            return _reply(
                self._adapter.request(method, f"/v1/{quote(path, safe='/~')}", headers=headers, json=body, params=dict(params or {}))
            )

    @contextmanager
    def _translate(self, what: str) -> Iterator[None]:
        """Turn what the library raises into ours; the library's own text is left out because it may quote the request."""
        try:
            yield
        except requests.Timeout:
            raise Transient(f"{self.where}: {what}: no answer within {self.config.timeout:g} seconds") from None
        except requests.exceptions.SSLError as error:
            raise Permanent(f"{self.where}: {what}: the certificate is not trusted ({type(error).__name__}); set ca_file") from None
        except (requests.exceptions.MissingSchema, requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL):
            raise Permanent(f"{self.where}: {what}: this is not an address; write url as https://host:8200") from None
        except requests.RequestException as error:
            raise Transient(f"{self.where}: {what}: the connection failed ({type(error).__name__})") from None

    def _judge(self, method: str, path: str, reply: _Reply, words: str) -> DriverError:
        """Say what a refusal means. ``words`` are the server's, already emptied where they might quote a value."""
        what, said = f"{self.where}: {method} {path}", f": {words}" if words else ""
        known = f"{reply.errors} {reply.body.get('message', '')}".lower()
        ill = reply.status >= 429
        if ill and "sealed" in known:
            return Transient(f"{self.where}: sealed ({reply.status}{said}); unseal it, then everything goes on by itself")
        if reply.status in (472, 473) or (ill and re.search("standby|not active|no active", known)):
            return Transient(f"{self.where}: no active node answers ({reply.status}{said})")
        if "not initialized" in known or reply.status == 501:
            return Transient(f"{self.where}: not initialised ({reply.status}{said}); initialise and unseal it")
        if "check-and-set" in known:
            return Conflict(f"{what}: somebody else wrote first (check-and-set); the next pass looks again")
        if reply.status == 400 and "upgrading from non-versioned" in known:
            return Transient(f"{what}: the mount is being upgraded to versions; it is back in a moment")
        if reply.status == 403:
            return Permanent(
                f"{what}: permission denied (403); the token's policies need the capability {CAPABILITY[method]} on path "
                f'"{path}"{" with sudo" if path.startswith("sys/auth/") else ""}'
            )
        if reply.status in (408, 412, 429) or reply.status >= 500:
            return Transient(f"{what}: {reply.status}{said}", retry_after=reply.retry_after)
        return Permanent(f"{what}: {reply.status}{said}")

    def _good_token(self) -> _Token:
        """Give the token, made or renewed if it is time for that. One thread at a time does the work, the others find it done."""
        with self._lock:
            token, now = self._token, self._clock()
            if token is None or (token.dies_at is not None and now >= token.dies_at and self._can_login):
                token = self._token = self._login()
            elif token.renewable and token.renew_at is not None and now >= token.renew_at:
                token = self._token = self._renew(token)
            return token

    @property
    def _can_login(self) -> bool:
        return not isinstance(self.config.auth, TokenAuth)

    def _replace_dead(self, used: _Token) -> bool:
        """After a 403: True when the call should be sent again with another token, False when the token is good and rights are missing.

        Raises Permanent when the token is dead and no other can be had.
        """
        with self._lock:
            if self._token is not used:
                return True
            reply = self._self("lookup_self", used)
            if reply.status < 400:
                return False
            if reply.status != 403:
                raise self._judge("GET", "auth/token/lookup-self", reply, reply.errors)
            if not self._can_login:
                raise Permanent(f"{self.where}: the token has ended or was revoked (403); put a new one into the target's settings")
            before, self._token = self._token, None
            self._token = self._login()
            if self._token.value == before.value:
                self._token = None
                raise Permanent(f"{self.where}: the token file still holds a token that has ended (403); renew it")
            return True

    def _renew(self, token: _Token) -> _Token:
        """Renew; when that is refused, log in again or, with a fixed token, use it to its end."""
        reply = self._self("renew_self", token)
        if reply.status < 400:
            return self._made(reply, token.value)
        if reply.status in (400, 403):
            return self._login() if self._can_login else _Token(token.value)
        raise self._judge("POST", "auth/token/renew-self", reply, reply.errors)

    def _self(self, verb: str, token: _Token) -> _Reply:
        with self._translate(f"auth/token/{verb.replace('_', '-')}"):
            self._adapter.token = token.value
            return _reply(getattr(Token(self._adapter), verb)())

    def _login(self) -> _Token:
        """Get a token as the settings say. Raises Permanent when the server refuses, naming the role and never a credential."""
        match self.config.auth:
            case TokenAuth(token=token):
                return self._inspect(token.get_secret_value())
            case TokenFileAuth(token_file=file):
                return self._inspect(_read(file.read_text, f"{self.where}: token file {file}"))
            case KubernetesAuth(role=role, mount=mount, jwt_file=file):
                jwt = _read(file.read_text, f"{self.where}: service account token {file}")
                return self._log_in(f"auth/{mount}/login as role {role}", lambda: Kubernetes(self._adapter).login(role, jwt, False, mount))
            case AppRoleAuth(role_id=role_id, secret_id=secret, mount=mount):
                return self._log_in(
                    f"auth/{mount}/login",
                    lambda: AppRole(self._adapter).login(role_id, secret.get_secret_value(), use_token=False, mount_point=mount),
                )

    def _log_in(self, what: str, login: Callable[[], Any]) -> _Token:
        with self._translate(f"POST {what}"):
            self._adapter.token = ""
            reply = _reply(login())
        if reply.status in (400, 403) and "sealed" not in reply.errors:
            raise Permanent(
                f"{self.where}: POST {what}: login refused ({reply.status}: {reply.errors}); check the role and what it is bound to"
            )
        if reply.status >= 400:
            raise self._judge("POST", what, reply, reply.errors)
        return self._made(reply, "")

    def _inspect(self, value: str) -> _Token:
        """Learn how long a given token lives. A token that may not even look itself up is used as it is."""
        reply = self._self("lookup_self", _Token(value))
        if reply.status in (403, 404):
            return _Token(value)
        if reply.status >= 400:
            raise self._judge("GET", "auth/token/lookup-self", reply, reply.errors)
        data = self._data(reply, "GET auth/token/lookup-self")
        return self._aged(value, int(data.get("ttl") or 0), renewable=bool(data.get("renewable")))

    def _made(self, reply: _Reply, value: str) -> _Token:
        auth = reply.body.get("auth")
        if not isinstance(auth, dict):
            raise Transient(
                f"{self.where}: the answer to a login or renewal carries no token; is something else answering at this address?"
            )
        return self._aged(
            str(auth.get("client_token") or value), int(auth.get("lease_duration") or 0), renewable=bool(auth.get("renewable"))
        )

    def _aged(self, value: str, ttl: int, *, renewable: bool) -> _Token:
        if ttl <= 0:
            return _Token(value)
        now = self._clock()
        return _Token(value, renew_at=now + ttl * RENEW_AT, dies_at=now + ttl * 0.9, renewable=renewable)


def _read(read: Callable[[], str], what: str) -> str:
    try:
        return read().strip()
    except OSError as error:
        raise Permanent(f"{what} cannot be read: {error.strerror}") from None


def _reply(response: requests.Response) -> _Reply:
    try:
        body = response.json() if response.content else None
    except requests.exceptions.JSONDecodeError:
        body = None
    wait = response.headers.get("Retry-After", "")
    is_object = isinstance(body, dict)
    return _Reply(response.status_code, body if isinstance(body, dict) else {}, is_object, float(wait) if wait.isdigit() else None)
