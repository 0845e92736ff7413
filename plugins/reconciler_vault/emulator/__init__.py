"""A small Vault on a real socket, for the sandbox and the tests: KV version 2, enforced policies, mounts, tokens, two auth methods.

It answers as the server does where this plugin or its user would notice: check-and-set by 400, tombstones by 404 with a body, metadata that
POST replaces and PATCH merges, 403 for missing rights and for dead tokens alike.
"""

import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from reconciler.resource import JSONObject
from reconciler.sandbox.server import AppServer, FaultMiddleware, Faults
from reconciler_vault.emulator.auth import service_account_token
from reconciler_vault.emulator.system import System
from reconciler_vault.emulator.wire import Call, Refused

__all__ = ["VaultEmulator", "service_account_token"]

ROOT = "root-of-the-emulator"
WORDS = {
    "rate-limit": (429, 'request path "": rate limit quota exceeded'),
    "server-error": (500, "1 error occurred:\n\t* internal error\n\n"),
}


class VaultEmulator:
    """One server. ``system`` is what it holds, and ``faults`` what it is told to do wrong."""

    def __init__(self, seed: JSONObject | None = None) -> None:
        """Build it from a seed: ``token``, ``secrets`` (path -> key -> value), ``policies`` (name -> text), ``auth`` (methods to mount).

        A mount for every secret's first part is made, and ``secret`` always.
        """
        seed = seed or {}
        self.faults, self.system = Faults(), System()
        self.token = str(seed.get("token") or ROOT)
        self.system.tokens.make(["root"], ttl=0, value=self.token)
        secrets = seed.get("secrets") or {}
        for mount in sorted({"secret", *(path.split("/", 1)[0] for path in secrets)}):
            self.ask("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
        for method in seed.get("auth") or ():
            self.ask("POST", f"sys/auth/{method}", {"type": method})
        for name, policy in (seed.get("policies") or {}).items():
            self.ask("POST", f"sys/policies/acl/{name}", {"policy": policy})
        for path, data in secrets.items():
            mount, rest = path.split("/", 1)
            self.ask("POST", f"{mount}/data/{rest}", {"data": data})
        self._server = AppServer(FaultMiddleware(self._serve, self.faults, _render))

    @property
    def url(self) -> str:
        """Where it listens."""
        return self._server.url

    def start(self) -> None:
        """Listen on a free loopback port."""
        self._server.start()

    def stop(self) -> None:
        """Close every socket."""
        self._server.stop()

    def settings(self) -> JSONObject:
        """Give the target configuration that leads the driver here."""
        return {"url": self.url, "auth": {"method": "token", "token": self.token}, "timeout": 5.0}

    def summary(self) -> list[str]:
        """Say what is inside: paths and key names, never values."""
        lines = [f"vault at {self.url} (log in with the token {self.token!r})" if self.token == ROOT else f"vault at {self.url}"]
        for mount, engine in sorted(self.system.kv.items()):
            for path, entry in sorted(engine.entries.items()):
                newest = entry.versions.get(entry.current)
                keys = ", ".join(sorted(newest.data)) if newest and newest.alive and newest.data else "no live version"
                lines.append(f"{mount}/{path} version {entry.current}: {keys}")
        lines += [f"policy {name}" for name in sorted(self.system.policies)]
        return lines + [
            f"auth/{path}: roles {', '.join(sorted(method.roles)) or 'none'}" for path, method in sorted(self.system.auth.items())
        ]

    def ask(self, method: str, path: str, body: JSONObject | None = None, *, token: str | None = None) -> JSONObject | None:
        """Do as an operator with the root token would, without the socket and its log; None where there is nothing (404)."""
        headers = {"content-type": "application/merge-patch+json"} if method == "PATCH" else {}
        path, _, query = path.strip("/").partition("?")
        try:
            return self.system.handle(
                Call(method, path.strip("/"), body or {}, dict(parse_qsl(query)), headers, self.token if token is None else token)
            )
        except Refused as refusal:
            if refusal.status == 404:
                return None
            raise

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        raw = await request.body()
        try:
            answer = self._answer(request, json.loads(raw) if raw else {})
        except ValueError:
            answer = JSONResponse({"errors": ["error parsing JSON"]}, 400)
        await answer(scope, receive, send)

    def _answer(self, request: Request, body: JSONObject) -> Response:
        path = request.url.path
        if not path.startswith("/v1/"):
            return JSONResponse({"errors": []}, 404)
        path = str(request.scope["path"])
        verb = "LIST" if request.method == "GET" and request.query_params.get("list") == "true" else request.method
        verb = "GET" if verb == "HEAD" else verb
        params, headers = dict(request.query_params), dict(request.headers)
        try:
            found = self.system.handle(Call(verb, path[4:].strip("/"), body, params, headers, headers.get("x-vault-token", "")))
        except Refused as refusal:
            return Response(status_code=refusal.status) if refusal.bare else JSONResponse(refusal.body, refusal.status)
        return Response(status_code=204) if found is None else JSONResponse(_envelope(found))


def _envelope(found: Mapping[str, object]) -> JSONObject:
    return {"request_id": "", "lease_id": "", "renewable": False, "lease_duration": 0, "wrap_info": None, "warnings": None, **found}


def _render(kind: str) -> tuple[int, dict[str, str], bytes]:
    """Give Vault's own answer for a fault; html is a proxy's."""
    if kind not in WORDS:
        return 502, {"Content-Type": "text/html"}, b"<html><body>Bad Gateway</body></html>"
    status, text = WORDS[kind]
    headers = {"Content-Type": "application/json"} | ({"Retry-After": "3"} if status == 429 else {})
    return status, headers, json.dumps({"errors": [text]}).encode()
