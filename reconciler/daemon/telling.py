"""Puts the half of the daemon together that tells people: the way out, and the outbox."""

from datetime import UTC

from reconciler.clock import Clock
from reconciler.daemon.digest import owe_digest
from reconciler.daemon.outbox import Outbox
from reconciler.daemon.recording import page
from reconciler.notify import LogSink, Sink
from reconciler.resource import SecretValue
from reconciler.settings import Notify, Settings
from reconciler.state import Store

PACE = 1.2
"""Seconds between two messages: Slack allows one a second in a channel, and fifty edits a minute."""


def outbox(settings: Settings, store: Store, clock: Clock) -> Outbox:
    """Make the outbox that the settings name. Raises SettingsError."""
    notify = settings.notify
    return Outbox(
        store,
        sink(notify),
        clock,
        PACE if _speaks(notify) else 0.0,
        notify.debounce if _speaks(notify) else 0.0,
        "slack" if _speaks(notify) else "log",
        settings.instance,
        lambda part, stack: page(settings, part, stack),
        lambda now: owe_digest(store, notify.digest_hour, now.astimezone(UTC)),
    )


def _speaks(notify: Notify) -> bool:
    return bool(notify.slack_webhook.get_secret_value() or notify.slack.channel)


def sink(notify: Notify) -> Sink:
    """Make the way out that the settings name: a bot, a webhook, or the log."""
    if notify.slack.channel:
        from reconciler.notify.slack_api import SlackBot  # a quarter of a second that only Slack's users pay

        token, heard = SecretValue(notify.slack.bot_token.get_secret_value()), bool(notify.slack.signing_secret.get_secret_value())
        return SlackBot(token, notify.slack.channel, base_url=notify.slack.api_url, buttons=heard)
    webhook = notify.slack_webhook.get_secret_value()
    if not webhook:
        return LogSink()
    from reconciler.notify.slack import SlackSink  # as above

    return SlackSink(SecretValue(webhook))
