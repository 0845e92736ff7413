"""``reconciler demo``: everything at work on an embedded world, from one commit to a running mail system."""

import signal
import tempfile
import time
from pathlib import Path

import click

from reconciler.cli import common


@click.command("demo")
@click.option("--stay", is_flag=True, help="Keep the world running at the end, until Ctrl-C.")
@click.option(
    "--desired", type=click.Path(exists=True, file_okay=False, path_type=Path), default=Path("desired"), help="The stacks to push."
)
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Write what was printed as an SVG picture.")
@click.pass_context
def command(ctx: click.Context, stay: bool, desired: Path, picture: Path | None) -> int:
    """Push desired/mail to an embedded world and play three scenes on it. Exit code 0 only if every promise held."""
    from reconciler.daemon.loop import Daemon
    from reconciler.sandbox.demo import Demo
    from reconciler.sandbox.screen import Screen
    from reconciler.sandbox.world import World

    screen = Screen(record=picture is not None, color=ctx.color)

    told = []

    def wait(world: World, service: Daemon) -> None:
        told.append(True)
        settings = world.root / "reconciler.yaml"
        settings.write_text(world.settings_text(), encoding="utf-8")
        settings.chmod(0o600)
        screen.say(f"\n  the world stays up; another terminal: reconciler --settings {settings} status\n  Ctrl-C ends it")
        while not service.workshop.stop.is_set():
            time.sleep(0.5)

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="reconciler-demo-") as root:
        demo = Demo(desired, Path(root), screen)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever ends it gets the ports and the files taken away, too
        try:
            broken = demo.play(wait if stay else None)
        except KeyboardInterrupt:
            if not told:
                raise  # the story was cut short, and promised nothing yet
            broken = demo.broken
    if not stay:
        screen.say("\n  the world has ended with the story; make demo ARGS=--stay keeps it up to look at")
    verdict = f"{len(broken)} promises were broken" if broken else "every promise was kept"
    screen.say(f"\n  [bold]{verdict}[/] in {time.monotonic() - started:.0f} s")
    if picture is not None:
        screen.save(picture)
    return common.ERROR if broken else common.IN_SYNC
