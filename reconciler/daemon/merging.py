"""What of new settings counts while the daemon runs, and what waits for a restart. Pure: values in, values out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import SecretStr, ValidationError

from reconciler.daemon.http.config import Http
from reconciler.settings import Settings

ADDRESSES = ("listen", "webhook_listen")
LIVE = (
    "targets",
    "repository",
    "repositories",
    "engine",
    "notify",
    "forge",
    "fingerprint_key",
    "telemetry.log_level",
    "telemetry.log_format",
    *(f"http.{name}" for name in Http.model_fields if name not in ADDRESSES),
)
"""What can change under a running daemon; everything else needs a restart."""
SECRET = "notify.slack.signing_secret"  # noqa: S105 - its name


@dataclass(frozen=True, slots=True)
class Merged:
    """Settings to be put in force, the dotted names of what waits for a restart, and words about that for the log."""

    settings: Settings
    late: tuple[str, ...]
    words: tuple[str, ...]


def merge(before: Settings, after: Settings, changed: Sequence[str]) -> Merged:
    """Lay new settings over those with which the daemon was started. ``changed`` are the dotted names of what differs."""
    late = {name for name in changed if not name.startswith(LIVE)}
    kept = {name.split(".")[0] for name in late} - {"telemetry", "http"}
    update = {name: getattr(before, name) for name in kept}
    http, trouble = _http(before.http, after.http)
    if trouble:
        late |= {name for name in changed if name.startswith("http.")}
    update["http"] = http
    slack = after.notify.slack
    if slack.signing_secret.get_secret_value() and not _listens(http):  # buttons that nobody hears
        late.add(SECRET)
        update["notify"] = after.notify.model_copy(update={"slack": slack.model_copy(update={"signing_secret": SecretStr("")})})
    words = (*_moved(before.http, after.http), *([f"http stays as it was until a restart: {trouble}"] if trouble else []))
    return Merged(after.model_copy(update=update), tuple(sorted(late)), words)


def _listens(http: Http) -> bool:
    return any(getattr(http, name) for name in ADDRESSES)


def _http(before: Http, after: Http) -> tuple[Http, str]:
    """Give the section that counts where the daemon listens already, or the one before with what keeps the new from it.

    What is right at one address may open another to everybody, so that it is checked again as it is at a start.
    """
    if not _listens(before) and _listens(after):
        return before, "nothing listens yet"
    try:
        return Http(**{**dict(after), **{name: getattr(before, name) for name in ADDRESSES}}), ""
    except ValidationError as error:
        return before, "; ".join(one["msg"].removeprefix("Value error, ") for one in error.errors(include_input=False))


def _moved(before: Http, after: Http) -> Iterator[str]:
    for name in ADDRESSES:
        if (here := getattr(before, name)) != (there := getattr(after, name)):
            yield f"http.{name}: {here or 'nowhere'} until a restart, then {there or 'nowhere'}"
