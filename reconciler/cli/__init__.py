"""The command line: one module per verb, imported only when its verb is used, so that ``--help`` is fast.

Exit codes are those that users of ``terraform plan -detailed-exitcode`` expect: 0 in sync, 2 changes pending, 1 error.
"""

import logging
import sys
from importlib import import_module
from keyword import iskeyword
from typing import Any

import click

from reconciler import __version__

VERBS = {
    "validate": "Check the desired state; report every problem with file and line.",
    "plan": "Show what would change. Writes nothing.",
    "apply": "Converge once, now.",
    "drift": "Show what somebody changed behind git's back, and who.",
    "explain": "Say why a resource is in its state.",
    "graph": "Show the order of the resources.",
    "status": "Show how the stacks fare, from the last runs.",
    "history": "Show past runs, or one of them.",
    "approve": "Let exactly one held plan pass, by its digest.",
    "trigger": "Ask the daemon for a pass now.",
    "import": "Write what already runs as desired state.",
    "adopt": "Take what is live of a resource into its file.",
    "schema": "Print the JSON Schema of the kinds, for editors.",
    "run": "Run the daemon.",
    "demo": "Show it all on an embedded world.",
}


class Verbs(click.Group):
    """Knows the verbs by name and loads the module of one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Give the verbs in the order of a first day."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one verb; None when there is no such."""
        if cmd_name not in VERBS:
            return None
        module = f"{cmd_name}_" if iskeyword(cmd_name) else cmd_name
        command: click.Command = import_module(f"reconciler.cli.{module}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verbs without loading them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the verb that was probably meant."""
        if args and args[0] not in VERBS and not args[0].startswith("-"):
            from difflib import get_close_matches

            close = get_close_matches(args[0], VERBS, n=1)
            ctx.fail(f"there is no command {args[0]!r}" + (f"; did you mean {close[0]}?" if close else ""))
        return super().resolve_command(ctx, args)


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog='Exit codes: 0 in sync, 2 changes pending, 1 error. Completion: eval "$(_RECONCILER_COMPLETE=bash_source reconciler)".',
)
@click.version_option(__version__, prog_name="reconciler")
@click.option("--settings", "settings_file", type=click.Path(dir_okay=False), help="Settings file. [default: reconciler.yaml if it exists]")
@click.option("--repository", metavar="NAME", help="Read this one of several repositories of the settings.")
@click.option("--color/--no-color", default=None, help="Colours. [default: only on a terminal]")
@click.pass_context
def group(ctx: click.Context, settings_file: str | None, repository: str | None, color: bool | None) -> None:
    """Converge several systems to what one git commit says, and keep them there."""
    ctx.obj = {"settings": settings_file, "repository": repository}
    ctx.color = color


def main(arguments: list[str] | None = None) -> Any:
    """Run a command. Ends the process with the exit code."""
    from reconciler.errors import ReconcilerError

    logging.getLogger("cel").setLevel(logging.CRITICAL)  # it writes down what a function raised, and raises that, too
    try:
        code = group.main(arguments, prog_name="reconciler", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(1)
    except ReconcilerError as error:
        click.secho(str(error), fg="red", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
