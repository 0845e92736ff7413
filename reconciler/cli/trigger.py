"""``reconciler trigger``: asks a running daemon for a pass, through its API."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from reconciler.cli import common
from reconciler.errors import ReconcilerError, SettingsError

if TYPE_CHECKING:  # loaded only when something is asked
    from httpx import Response

SECONDS = 10.0


@click.command("trigger")
@click.argument("stack")
@click.option(
    "--url", default="", help="Where the daemon listens, e.g. https://reconciler.example.org. [default: http.listen of the settings]"
)
@click.option("--token", default="", help="A token with the role operate, or file:/PATH of one. [default: one of the settings' own]")
@click.option("--reason", default="asked for by hand", show_default=True, help="Shown wherever the pass is.")
@click.pass_context
def command(ctx: click.Context, stack: str, url: str, token: str, reason: str) -> int:
    """Ask the daemon to look at the repository and to converge STACK now. Returns at once; see reconciler status for the result."""
    import httpx

    address, shown = _where(ctx, url, token)
    try:
        answer = httpx.post(
            f"{address}/api/v1/stacks/{_quoted(stack)}/trigger",
            json={"reason": reason},
            headers={"authorization": f"Bearer {shown}"},
            timeout=SECONDS,
        )
    except httpx.HTTPError as error:
        raise ReconcilerError(f"{address}: the daemon does not answer: {error or type(error).__name__}") from None
    except (httpx.InvalidURL, UnicodeEncodeError):
        raise ReconcilerError(f"{address}: is no address, or the token is no text that a header can hold") from None
    if answer.status_code != 202:
        raise ReconcilerError(f"{stack}: {_why(answer)}")
    click.echo(f"{stack}: a pass was asked for")
    return common.IN_SYNC


def _where(ctx: click.Context, url: str, token: str) -> tuple[str, str]:
    """Give the address and the token, from the command line or else from the settings of a daemon on this machine."""
    token = _read(token)
    if url and token:
        return url.rstrip("/"), token
    http = common.settings_of(ctx).http
    own = next((one.token.get_secret_value() for one in http.tokens.values() if one.role != "read"), "")
    if not (url or http.listen) or not (token or own):
        raise SettingsError("set http.listen and http.tokens in reconciler.yaml, or give --url and --token")
    return (url or f"http://{http.listen}").rstrip("/"), token or own


def _read(token: str) -> str:
    """Read ``file:/PATH``, so that no token need stand in a list of processes."""
    if not token.startswith("file:/"):
        return token
    try:
        return Path(token.removeprefix("file:")).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise SettingsError(f"{token.removeprefix('file:')}: cannot be read as a token") from None


def _quoted(stack: str) -> str:
    from urllib.parse import quote

    return quote(stack, safe="")


def _why(answer: "Response") -> str:
    """Give the detail of a problem document, or the status when it is none."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"the daemon answered {answer.status_code}"
