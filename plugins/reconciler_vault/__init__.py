"""Keeps HashiCorp Vault and OpenBao: shapes of secrets, generated values, policies, roles and mounts; also serves as the secret store.

Importing this package reads no vendor library; the driver is loaded when a target is configured.
"""

from reconciler.driver import Plugin
from reconciler_vault.config import VaultConfig
from reconciler_vault.kinds import KINDS

PLUGIN = Plugin(
    name="vault",
    api_version="vault/v1",
    kinds=KINDS,
    config=VaultConfig,
    driver="reconciler_vault.driver:VaultDriver",
    emulator="reconciler_vault.emulator:VaultEmulator",
    keeps_secrets=True,
)
"""What the entry point names."""
