"""pfSense: aliases, port forwards, filter rules and HAProxy, written as one transaction by one PHP program over SSH."""

from reconciler.driver import Plugin
from reconciler_pfsense.config import Config
from reconciler_pfsense.fields import DRIVER
from reconciler_pfsense.spec import KINDS

PLUGIN = Plugin(
    name=DRIVER,
    api_version="pfsense/v1",
    kinds=KINDS,
    config=Config,
    driver="reconciler_pfsense.driver:PfSenseDriver",
    emulator="reconciler_pfsense.emulator:PfSenseEmulator",
    transactional=True,
)
