"""``reconciler run``: the daemon in the foreground, for a supervisor to keep."""

import logging
import signal
from pathlib import Path

import click

from reconciler.cli import common
from reconciler.git import masked


@click.command("run")
@common.path
@click.option("--workers", type=click.IntRange(1), help="Stacks that are converged side by side. [default: engine.stacks]")
@click.pass_context
def command(ctx: click.Context, path: Path | None, workers: int | None) -> int:
    """Run the daemon: watch the repository (or --path, while you edit it) and keep every stack converged.

    New settings are taken when their file, or one that they name, changes. SIGHUP makes it read them, and look at the repository, now;
    SIGTERM lets the write under way finish and ends it.
    """
    from reconciler.daemon import lean

    lean.begin()
    from reconciler import telemetry
    from reconciler.daemon.service import daemon
    from reconciler.state import Store

    settings = common.settings_of(ctx)
    telemetry.configure_logging(settings.telemetry.log_level, settings.telemetry.log_format)
    telemetry.catch_crashes()
    telemetry.configure(settings.telemetry.exporter, file=settings.telemetry.file, endpoint=settings.telemetry.endpoint)
    from reconciler.daemon.recording import recorder

    lean.migrate(settings.state)
    store = Store(settings.state, heal=True, news=recorder(settings))
    service = daemon(settings, store, path=path, workers=workers or settings.engine.stacks)
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: service.workshop.stop.set())
    from reconciler.daemon.reload import Reloader

    name = ctx.obj["settings"]
    reloader = Reloader(service, Path(name) if name else None)
    signal.signal(signal.SIGHUP, lambda *_: reloader.ask())
    reloader.attend()
    watched = path or ", ".join(masked(one.url) for one in settings.sources().values())
    logging.getLogger("reconciler").info("watching %s", watched)
    try:
        service.run()
    finally:
        store.close()
        telemetry.shutdown()
    return common.IN_SYNC
