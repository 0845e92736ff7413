"""The wire to Vault: sessions, deadlines, logins, and the only importer of hvac. Knows nothing of resources.

Values pass through as request and answer bodies; what is said of an answer is said by ``answers.py``.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from queue import Empty, LifoQueue
from typing import Any
from urllib.parse import quote, urljoin

import requests
from hvac.adapters import RawAdapter
from hvac.api.auth_methods import AppRole, Kubernetes
from hvac.api.auth_methods import Token as OwnToken

from reconciler.driver import Scope
from reconciler.errors import DriverError, Permanent, Transient
from reconciler.resource import JSONObject
from reconciler.writing import may_write
from reconciler_vault.answers import Reply, data_of, judged
from reconciler_vault.config import AppRoleAuth, KubernetesAuth, TokenAuth, TokenFileAuth, VaultConfig
from reconciler_vault.tokens import Token, TokenLife

MERGE = {"Content-Type": "application/merge-patch+json"}


class Vault:
    """One identity at one server. Logs in when first needed and once per life of a token. Thread-safe: each call takes a session."""

    def __init__(
        self,
        config: VaultConfig,
        clock: Callable[[], float] = time.monotonic,
        sessions: Callable[[], requests.Session] = requests.Session,
    ) -> None:
        """Take the settings; nothing is sent yet. ``clock`` gives seconds; ``sessions`` makes what sends requests."""
        self.config, self._clock, self._sessions = config, clock, sessions
        self._idle: LifoQueue[RawAdapter] = LifoQueue()
        self._made: list[RawAdapter] = []
        self._lock = threading.Lock()
        self.tokens = TokenLife(self, clock)

    @property
    def where(self) -> str:
        """Name the target in messages."""
        return f"vault {self.config.url}"

    def close(self) -> None:
        """Revoke a token that was made for us by a login, so that restarts leave none behind, and close the connections."""
        token = self.tokens.close()
        if token is not None and isinstance(self.config.auth, KubernetesAuth | AppRoleAuth):
            with suppress(DriverError):
                self._self("revoke_self", token)
        with self._lock:
            made, self._made = self._made, []
        for adapter in made:
            adapter.close()

    def get(
        self, path: str, scope: Scope, *, params: Mapping[str, str] | None = None, deleted: bool = False, sensitive: bool = False
    ) -> JSONObject | None:
        """Read ``path`` (below ``/v1/``); None when there is nothing. A deleted version is nothing, too, unless ``deleted`` asks for it."""
        reply = self._call("GET", path, scope, params=params, sensitive=sensitive)
        if reply.status == 404:
            return data_of(self.where, path, reply) or None if deleted and reply.json else None
        return data_of(self.where, f"GET {path}", reply)

    def list(self, path: str, scope: Scope) -> list[str]:
        """List the names below ``path``; none when there is nothing."""
        reply = self._call("LIST", path, scope)
        return [] if reply.status == 404 else [str(key) for key in data_of(self.where, f"LIST {path}", reply).get("keys") or []]

    def write(self, method: str, path: str, body: Mapping[str, Any] | None, scope: Scope, *, sensitive: bool = False) -> JSONObject:
        """Send POST, PATCH or DELETE. ``sensitive`` keeps the server's words out of messages. Raises Permanent when there is nothing."""
        reply = self._call(method, path, scope, body=body, sensitive=sensitive)
        if reply.status == 404:
            words = "" if sensitive else reply.errors
            raise Permanent(f"{self.where}: {method} {path}: nothing is there ({words or 'not found'}); check the mount")
        return data_of(self.where, f"{method} {path}", reply) if reply.json else {}

    def _call(
        self,
        method: str,
        path: str,
        scope: Scope,
        *,
        body: Mapping[str, Any] | None = None,
        params: Mapping[str, str] | None = None,
        sensitive: bool = False,
    ) -> Reply:
        """Send one call with a good token. A 403 is repeated once, if it was the token that was bad: the server did nothing then."""
        with scope.span(f"{method} {path}", target=self.config.url):
            token = self.tokens.good()
            reply = self._send(method, path, token, body, params)
            if reply.status == 403 and self.tokens.replace_dead(token):
                reply = self._send(method, path, self.tokens.good(), body, params)
        if reply.refused:
            raise self._judged(method, path, reply, "" if sensitive else reply.without(token.value))
        if reply.status == 404 and "namespace not found" in reply.errors:
            raise Permanent(f"{self.where}: there is no namespace {self.config.namespace}; make it, or correct namespace in the target")
        return reply

    def _judged(self, method: str, path: str, reply: Reply, words: str) -> DriverError:
        if reply.sealed and not self._initialised():
            return Transient(f"{self.where}: not initialised; initialise and unseal it, then everything goes on by itself")
        return judged(self.where, method, path, reply, words)

    def _initialised(self) -> bool:
        """Ask the health of the server, which needs no token; a server that was never initialised calls itself sealed otherwise."""
        with self._translate("GET sys/health"), self._adapter("") as adapter:
            inside, adapter.namespace = adapter.namespace, None  # health is known in the root namespace only
            try:
                return _reply(adapter.request("GET", "/v1/sys/health")).body.get("initialized") is not False
            finally:
                adapter.namespace = inside

    def _send(self, method: str, path: str, token: Token, body: Mapping[str, Any] | None, params: Mapping[str, str] | None) -> Reply:
        headers = dict(MERGE) if method == "PATCH" else {}
        if method not in ("GET", "LIST"):
            may_write()
        with self._translate(f"{method} {path}"), self._adapter(token.value) as adapter:
            return _reply(adapter.request(method, f"/v1/{quote(path, safe='/~:')}", headers=headers, json=body, params=dict(params or {})))

    @contextmanager
    def _adapter(self, token: str) -> Iterator[RawAdapter]:
        """Borrow a session that no other thread uses, with ``token`` in it; more are made when all are in use."""
        try:
            adapter = self._idle.get_nowait()
        except Empty:
            adapter = self._new()
        adapter.token = token
        try:
            yield adapter
        finally:
            self._idle.put(adapter)

    def _new(self) -> RawAdapter:
        session = self._sessions()
        session.trust_env = False  # no proxy, certificate bundle or .netrc that the settings do not name
        session.verify = str(self.config.ca_file) if self.config.ca_file else True
        session.hooks["response"].append(self._stay_behind_tls)
        adapter = RawAdapter(
            base_uri=self.config.url,
            token="",
            timeout=self.config.timeout,  # type: ignore[arg-type]  # requests takes fractions of a second
            session=session,
            namespace=self.config.namespace or None,
            ignore_exceptions=True,
            strict_http=True,  # a listing as GET ?list=true, because proxies stop the verb LIST
        )
        with self._lock:
            self._made.append(adapter)
        return adapter

    def _stay_behind_tls(self, answer: requests.Response, **_: Any) -> None:
        """Refuse to be sent on to where the token, and perhaps a value, could be read on the way."""
        there = urljoin(answer.url, answer.headers.get("Location", ""))
        if answer.is_redirect and answer.url.startswith("https:") and not there.startswith("https:"):
            answer.close()
            raise Permanent(f"{self.where}: the server points to an address without TLS, and no token is sent there; correct its api_addr")

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

    # -- the source of tokens --------------------------------------------------------------------------------------------------

    @property
    def can_login(self) -> bool:
        """True when another token can be had."""
        return not isinstance(self.config.auth, TokenAuth)

    def is_dead(self, token: Token) -> bool:
        """Ask whether the server still knows a token."""
        reply = self._self("lookup_self", token)
        if reply.status < 400:
            return False
        if reply.status != 403:
            raise self._judged("GET", "auth/token/lookup-self", reply, reply.without(token.value))
        return True

    def renewed(self, token: Token) -> Token | None:
        """Renew; None when that is refused or the end of all renewals has come."""
        reply = self._self("renew_self", token)
        if reply.status in (400, 403):
            return None
        if reply.status >= 400:
            raise self._judged("POST", "auth/token/renew-self", reply, reply.without(token.value))
        fresh = self._given(reply, token.value)
        return fresh if fresh.dies_at is not None else None

    def _self(self, verb: str, token: Token) -> Reply:
        with self._translate(f"auth/token/{verb.replace('_', '-')}"), self._adapter(token.value) as adapter:
            return _reply(getattr(OwnToken(adapter), verb)())

    def login(self) -> Token:
        """Get a token as the settings say. Raises Permanent when the server refuses, naming the role and never a credential."""
        match self.config.auth:
            case TokenAuth(token=token):
                return self._inspect(token.get_secret_value())
            case TokenFileAuth(token_file=file):
                return self._inspect(_read(file.read_text, f"{self.where}: token file {file}"))
            case KubernetesAuth(role=role, mount=mount, jwt_file=file):
                jwt = _read(file.read_text, f"{self.where}: service account token {file}")
                return self._log_in(f"auth/{mount}/login as role {role}", jwt, lambda one: Kubernetes(one).login(role, jwt, False, mount))
            case AppRoleAuth() as auth:
                secret = auth.secret(lambda file: _read(file.read_text, f"{self.where}: secret id {file}"))
                return self._log_in(
                    f"auth/{auth.mount}/login",
                    secret,
                    lambda one: AppRole(one).login(auth.role_id, secret, use_token=False, mount_point=auth.mount),
                )

    def _log_in(self, what: str, credential: str, login: Callable[[RawAdapter], Any]) -> Token:
        with self._translate(f"POST {what}"), self._adapter("") as adapter:
            reply = _reply(login(adapter))
        words = reply.without(credential)
        if reply.status in (400, 403) and "sealed" not in reply.errors:
            said = f": {words}" if words else ""
            raise Permanent(f"{self.where}: POST {what}: login refused ({reply.status}{said}); check the role and what it is bound to")
        if reply.status >= 400:
            raise self._judged("POST", what, reply, words)
        return self._given(reply, "")

    def _inspect(self, value: str) -> Token:
        """Learn how long a given token lives. A token that may not even look itself up is used as it is."""
        reply = self._self("lookup_self", Token(value))
        if reply.status in (403, 404):
            return Token(value)
        if reply.status >= 400:
            raise self._judged("GET", "auth/token/lookup-self", reply, reply.without(value))
        data = data_of(self.where, "GET auth/token/lookup-self", reply)
        return Token.lasting(value, int(data.get("ttl") or 0), self._clock(), renewable=bool(data.get("renewable")))

    def _given(self, reply: Reply, value: str) -> Token:
        auth = reply.body.get("auth")
        if not isinstance(auth, dict):
            raise Transient(
                f"{self.where}: the answer to a login or renewal carries no token; is something else answering at this address?"
            )
        life = int(auth.get("lease_duration") or 0)
        return Token.lasting(str(auth.get("client_token") or value), life, self._clock(), renewable=bool(auth.get("renewable")))


def _read(read: Callable[[], str], what: str) -> str:
    try:
        return read().strip()
    except OSError as error:
        raise Permanent(f"{what} cannot be read: {error.strerror}") from None


def _reply(response: requests.Response) -> Reply:
    try:
        body = response.json() if response.content else None
    except requests.exceptions.JSONDecodeError:
        body = None
    wait = response.headers.get("Retry-After", "")
    is_object = isinstance(body, dict)
    return Reply(response.status_code, body if isinstance(body, dict) else {}, is_object, float(wait) if wait.isdigit() else None)
