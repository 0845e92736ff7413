"""Cloudflare DNS: one record is one resource; a zone's changes go out as one transaction.

Importing this package imports no vendor library.
"""

from reconciler.driver import Plugin
from reconciler_cloudflare.config import Config
from reconciler_cloudflare.spec import DNSRecord

PLUGIN = Plugin(
    name="cloudflare",
    api_version="cloudflare/v1",
    kinds={"DNSRecord": DNSRecord},
    config=Config,
    driver="reconciler_cloudflare.driver:CloudflareDriver",
    emulator="reconciler_cloudflare.emulator:CloudflareEmulator",
    importer="reconciler_cloudflare.importer:write_down",
)

__all__ = ["PLUGIN"]
