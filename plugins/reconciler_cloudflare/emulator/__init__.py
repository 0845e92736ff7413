"""A small, faithful Cloudflare on a loopback socket: zones and DNS records with the real system's habits."""

from reconciler_cloudflare.emulator.server import CloudflareEmulator

__all__ = ["CloudflareEmulator"]
