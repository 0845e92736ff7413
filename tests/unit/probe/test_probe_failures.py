"""What an exception means to a check: wrong, or nothing that can be known from here."""

import errno
import socket
from datetime import UTC, datetime, timedelta

import pytest

from reconciler.driver import Level
from reconciler_probe.client import CheckFailed, failure
from reconciler_probe.mail import check_certificate
from reconciler_probe.spec import Smtp


@pytest.mark.parametrize(
    ("error", "level", "words"),
    [
        (socket.gaierror(socket.EAI_AGAIN, ""), Level.UNKNOWN, "mx:25: the name cannot be looked up at the moment"),
        (socket.gaierror(socket.EAI_NONAME, ""), Level.DEGRADED, "mx:25: the name does not resolve"),
        (OSError(errno.ENETUNREACH, "Network is unreachable"), Level.UNKNOWN, "mx:25 cannot be reached from here: Network is unreachable"),
        (OSError(errno.EADDRNOTAVAIL, "Cannot assign"), Level.UNKNOWN, "mx:25 cannot be reached from here: Cannot assign"),
        (OSError(errno.EHOSTUNREACH, "No route to host"), Level.DEGRADED, "mx:25: No route to host"),
        (TimeoutError(), Level.DEGRADED, "mx:25 did not answer within 3 s"),
    ],
)
def test_what_says_nothing_about_the_other_side_is_unknown_and_not_wrong(error: OSError, level: Level, words: str) -> None:
    found = failure("mx:25", error, 3)
    assert (found.level, str(found)) == (level, words)


def test_a_certificate_that_has_ended_is_wrong_however_few_days_are_wanted() -> None:
    ended = datetime.now(UTC) - timedelta(hours=1)
    with pytest.raises(CheckFailed, match=f"mx:25: the certificate ended on {ended:%Y-%m-%d}") as caught:
        check_certificate(Smtp(host="mx", min_days_left=0), ended)
    assert caught.value.level is Level.DEGRADED
    soon = datetime.now(UTC) + timedelta(hours=1)
    assert check_certificate(Smtp(host="mx", min_days_left=0), soon) == f"certificate until {soon:%Y-%m-%d}"
