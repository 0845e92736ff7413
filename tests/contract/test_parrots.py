"""No client passes on what a failing server quotes of its credential, in whichever spelling. Real clients, and a server that is none."""

import base64
import json
import xmlrpc.client
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
from starlette.types import Receive, Scope, Send

from reconciler.errors import DriverError, Permanent
from reconciler.notify import Notice
from reconciler.notify.forge import KINDS
from reconciler.notify.slack import SlackSink
from reconciler.notify.slack_api import SlackBot
from reconciler.resource import SecretValue
from reconciler.sandbox.server import AppServer, answer
from reconciler_cloudflare.client import Client as CloudflareClient
from reconciler_cloudflare.config import Config as CloudflareConfig
from reconciler_k8s.client import Call, Cluster
from reconciler_k8s.config import KubernetesConfig
from reconciler_pfsense.config import Config as FirewallConfig
from reconciler_pfsense.xmlrpc import XmlRpcClient
from reconciler_uptime_kuma.answers import accepted

TOKEN = "canary+token/0123456789~="
SPELLINGS: dict[str, Callable[[str], str]] = {
    "clear": lambda text: text,
    "address": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(b"me:" + text.encode()).decode(),
    "json": lambda text: json.dumps({"it": text}),
}
SPELT = pytest.mark.parametrize("spelt", SPELLINGS.values(), ids=SPELLINGS)


def shown(text: str) -> bool:
    """Say whether the token, or a good part of it, can be read out of a text."""
    inner = base64.b64encode(b"me:" + TOKEN.encode()).decode()[4:-4]
    return any(one in text for one in (TOKEN, TOKEN[:12], TOKEN[-12:], quote(TOKEN, safe="")[-12:], inner))


class Parrot:
    """Answers everything with ``status`` and ``body``."""

    def __init__(self) -> None:
        self.status, self.body = 400, ""
        self.server = AppServer(self)
        self.server.start()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, self.status, {"content-type": "application/json"}, self.body.encode())


@pytest.fixture
def parrot() -> Iterator[Parrot]:
    made = Parrot()
    yield made
    made.server.stop()


def words_of(work: Callable[[], Any]) -> str:
    with pytest.raises(DriverError) as caught:
        work()
    return str(caught.value)


@SPELT
@pytest.mark.parametrize("status", [400, 401, 403, 409, 500])
def test_the_token_for_dns_stays_unsaid(parrot: Parrot, spelt: Callable[[str], str], status: int) -> None:
    said = {"code": 9999, "message": "cannot take", "error_chain": [{"code": 1, "message": f"it is {spelt(TOKEN)}"}]}
    parrot.status, parrot.body = status, json.dumps({"success": False, "errors": [said]})
    config = CloudflareConfig(token=TOKEN, base_url=parrot.server.url, zones={"example.org": "0" * 32})  # type: ignore[arg-type]
    client = CloudflareClient(config)
    words = words_of(lambda: client.records("example.org"))
    client.close()
    assert "cannot take" in words
    assert not shown(words)


@SPELT
@pytest.mark.parametrize("status", [400, 401, 403, 409, 422, 500])
def test_the_token_for_a_cluster_stays_unsaid(parrot: Parrot, spelt: Callable[[str], str], status: int) -> None:
    said = {"kind": "Status", "reason": "Invalid", "message": f"cannot take {spelt(TOKEN)} here", "code": status}
    parrot.status, parrot.body = status, json.dumps(said)
    cluster = Cluster(KubernetesConfig(url=parrot.server.url, token=TOKEN))  # type: ignore[arg-type]
    words = [words_of(cluster.discover)]

    def watched() -> None:
        with cluster.stream(Call("GET", "/api/v1/pods", "watch pods"), 1):
            pass

    words.append(words_of(watched))
    cluster.close()
    assert all("cannot take" in one for one in words)
    assert not shown(" ".join(words))


@SPELT
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [400, 401, 404, 422])
def test_the_token_for_a_forge_stays_unsaid(parrot: Parrot, spelt: Callable[[str], str], kind: str, status: int) -> None:
    parrot.status, parrot.body = status, json.dumps({"message": "cannot take " + "x" * 160 + f" {spelt(TOKEN)}"})
    forge = KINDS[kind](parrot.server.url, SecretValue(TOKEN), "me/infra")
    words = words_of(forge.pulls)
    assert "cannot take" in words
    assert not shown(words)


@pytest.mark.parametrize("status", [200, 400, 403, 404, 500])
def test_the_address_of_a_webhook_stays_unsaid(parrot: Parrot, status: int, caplog: pytest.LogCaptureFixture) -> None:
    path = f"/services/T0/B0/{TOKEN}"
    parrot.status, parrot.body = status, f"{path} was not found on this server"
    caplog.set_level("DEBUG")
    words = words_of(lambda: SlackSink(SecretValue(parrot.server.url + path)).send(Notice("x", "ok", "mail")))
    assert str(status) in words
    assert not shown(words + caplog.text)


@SPELT
def test_the_token_of_a_bot_stays_unsaid(parrot: Parrot, spelt: Callable[[str], str], caplog: pytest.LogCaptureFixture) -> None:
    more = {"response_metadata": {"messages": [f"[ERROR] cannot take {spelt(TOKEN)}"]}}
    parrot.status, parrot.body = 200, json.dumps({"ok": False, "error": "invalid_arguments", **more})
    caplog.set_level("DEBUG")
    bot = SlackBot(SecretValue(TOKEN), "C00000001", base_url=parrot.server.url + "/api/", timeout=5)
    words = words_of(lambda: bot.post(Notice("x", "ok", "mail"), "m1"))
    assert "cannot take" in words
    assert not shown(words + caplog.text)


@SPELT
def test_the_password_of_the_firewall_stays_unsaid(spelt: Callable[[str], str]) -> None:
    config = FirewallConfig(transport="xmlrpc", host="fw", username="me", password=TOKEN)  # type: ignore[arg-type]
    client, words = XmlRpcClient(config), f"cannot take {spelt(TOKEN)}"
    fault = xmlrpc.client.dumps(xmlrpc.client.Fault(7, words)).encode()
    with pytest.raises(Permanent, match="XML-RPC fault 7: cannot take") as caught:
        client._output(200, fault)
    assert not shown(str(caught.value))
    assert not shown(client._output(502, words.encode()))


@SPELT
@pytest.mark.parametrize(
    ("event", "sent"),
    [
        ("login", ({"username": "me", "password": TOKEN},)),
        ("loginByToken", (TOKEN,)),
        ("add", ({"name": "mail", "basic_auth_pass": TOKEN},)),
        ("editMonitor", ({"name": "mail", "url": "https://x", "headers": TOKEN},)),
        ("addNotification", ({"name": "slack", "config": {"deep": [TOKEN]}}, 1)),
    ],
)
def test_what_was_sent_to_a_monitoring_server_stays_unsaid(spelt: Callable[[str], str], event: str, sent: tuple[Any, ...]) -> None:
    words = words_of(lambda: accepted("https://kuma", event, {"ok": False, "msg": f"cannot take {spelt(TOKEN)} for mail"}, sent))
    assert "cannot take" in words
    assert "for mail" in words
    assert not shown(words)
