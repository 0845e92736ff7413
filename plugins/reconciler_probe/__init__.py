"""Checks as resources: TCP, SMTP, IMAP, DNS, HTTP and the round trip of a mail. A probe is looked at and never written.

Importing this package reads no vendor library; the driver is loaded when a target is configured.
"""

from reconciler.driver import Plugin
from reconciler_probe.config import ProbeConfig
from reconciler_probe.spec import KINDS

PLUGIN = Plugin(
    name="probe",
    api_version="probe/v1",
    kinds=KINDS,
    config=ProbeConfig,
    driver="reconciler_probe.driver:ProbeDriver",
    emulator="reconciler_probe.emulator:ProbeEmulator",
    acts=True,
)
"""What the entry point names."""
