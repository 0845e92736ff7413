"""Uptime Kuma: monitors, notification channels, maintenances and status pages, over the Socket.IO calls that its own web page uses.

Importing this package loads no network library; ``driver`` is loaded when a target is configured.
"""

from reconciler.driver import Plugin
from reconciler_uptime_kuma.config import UptimeKumaConfig
from reconciler_uptime_kuma.maintenance import Maintenance
from reconciler_uptime_kuma.page import StatusPage
from reconciler_uptime_kuma.spec import Monitor, Notification

PLUGIN = Plugin(
    name="uptime-kuma",
    api_version="uptime-kuma/v1",
    kinds={"Monitor": Monitor, "Notification": Notification, "Maintenance": Maintenance, "StatusPage": StatusPage},
    config=UptimeKumaConfig,
    driver="reconciler_uptime_kuma.driver:UptimeKumaDriver",
    emulator="reconciler_uptime_kuma.emulator:UptimeKumaEmulator",
)
