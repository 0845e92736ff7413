"""The route on which Slack tells of presses. Whose signature is wrong or old, and what came before, is refused without a word."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping

from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from reconciler.daemon.answers import Answers
from reconciler.daemon.loop import Daemon
from reconciler.notify import Whisperer
from reconciler.notify.interactive import Seal, presses
from reconciler.resource import SecretValue

log = logging.getLogger("reconciler.http")
PATH = "/slack/interactivity"
MOST, SECONDS = 1_000_000, 3.0
"""A press holds its whole message, which is far smaller; Slack itself waits three seconds."""


class TooLarge(Exception):
    """More bytes than a press has."""


def pressing(daemon: Daemon) -> Route:
    """Give the route for presses of Slack's buttons. It goes by the settings as they are at each press, and remembers what has come."""
    clock = daemon.workshop.clock

    def users() -> Mapping[str, str]:
        return daemon.workshop.settings.notify.slack.users  # asked at each press: who was taken out may no longer

    def whisper(user: str, text: str) -> None:
        if isinstance(daemon.outbox.sink, Whisperer):
            daemon.outbox.sink.whisper(user, text)

    def pushes(stack: str) -> bool:
        force = daemon.force.get(stack)
        repository = daemon.workshop.settings.sources().get(force.desired.source) if force is not None else None
        return repository is not None and repository.propose

    answers = Answers(daemon.store, daemon.asked, users, clock.now, daemon.planned, whisper, pushes)
    seal = Seal(SecretValue(""))

    def sealed() -> Seal | None:
        secret = daemon.workshop.settings.notify.slack.signing_secret.get_secret_value()
        if not secret:
            return None  # with an empty secret anybody could sign
        seal.secret = SecretValue(secret)
        return seal

    return slack_route(answers, sealed, lambda: clock.now().timestamp())


def slack_route(answers: Answers, sealed: Callable[[], Seal | None], now: Callable[[], float] = time.time) -> Route:
    """Give the route. ``sealed`` gives what knows Slack's requests as the settings are now, if any; ``now`` seconds of the epoch."""

    async def pressed(request: Request) -> Response:
        stamps, signatures = request.headers.getlist("x-slack-request-timestamp"), request.headers.getlist("x-slack-signature")
        if len(stamps) != 1 or len(signatures) != 1:
            return Response(status_code=401)
        try:
            async with asyncio.timeout(SECONDS):
                body = await _body(request)
        except TooLarge:
            return Response(status_code=413)
        except (TimeoutError, ClientDisconnect):
            return Response(status_code=408)
        seal = sealed()
        if seal is None or not seal.fresh(stamps[0].encode("latin-1"), signatures[0].encode("latin-1"), body, now()):
            return Response(status_code=401)
        return await _answered(answers, body)

    return Route(PATH, pressed, methods=["POST"])


async def _body(request: Request) -> bytes:
    """Read the raw bytes, which are what was signed."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST:
            raise TooLarge
    return body


async def _answered(answers: Answers, body: bytes) -> Response:
    """Do what was pressed, then answer; what is for the presser alone is told after the answer."""
    try:
        listed = presses(body)
    except ValueError:
        return Response(status_code=400)
    told = [(press.user, text) for press in listed if (text := await run_in_threadpool(answers.take, press))]
    return Response(status_code=200, background=BackgroundTask(_whisper, answers, told) if told else None)


def _whisper(answers: Answers, told: list[tuple[str, str]]) -> None:
    for user, text in told:
        try:
            answers.whisper(user, text)
        except Exception as error:  # nobody waits for it, and the press itself is dealt with
            log.warning("a presser could not be told %r: %s", text, error)
