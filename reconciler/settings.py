"""The settings: one typed object from ``reconciler.yaml`` and the environment. The only room that reads the environment.

Desired state says *what*; settings say *where and with what right*. A value of the form ``file:/run/secrets/token`` is read from that file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from reconciler.daemon.http.config import Http
from reconciler.errors import SettingsError
from reconciler.repositories import Forge, Repository, Section
from reconciler.resource import Address

DEFAULT_FILE = Path("reconciler.yaml")
SINGLE = "repository"


class State(Section):
    """What is remembered for people. Deleting it loses history only."""

    path: Path = Field(Path("reconciler.db"), description="SQLite file; WAL mode, one writer. The copy of the repository lies beside it.")
    url: SecretStr = Field(
        SecretStr(""),
        description="PostgreSQL that several daemons share, `postgresql+psycopg://USER:PASSWORD@HOST/DATABASE`; empty: `path`.",
    )
    keep_days: float = Field(90, gt=0, description="Days after which runs, closed drifts and sent notices are forgotten.")
    keep_runs: int = Field(1000, ge=20, description="Runs of one stack that are kept at most.")


class Engine(Section):
    """How hard a pass tries."""

    attempts: int = Field(4, ge=1, le=20, description="Tries of one call that fails for a temporary reason.")
    backoff: float = Field(0.5, ge=0, description="Seconds before the second try; doubles each time, with jitter.")
    backoff_max: float = Field(30, ge=0, description="Longest wait between tries, in seconds; a server's own wish up to this is honoured.")
    poll: float = Field(
        0.5,
        gt=0,
        description="Seconds between looks while what was written becomes healthy; the first ones at a gate come sooner.",
    )
    rounds: int = Field(5, ge=1, description="Passes run in a row while each makes the next possible.")
    workers: int = Field(8, ge=1, description="Targets observed and written at the same time.")
    stacks: int = Field(2, ge=1, description="Stacks that one daemon converges side by side; `--workers` wins.")
    deadline: float = Field(
        900, gt=0, description="Seconds after which one look at a target, or its part of a wave, is given up and the pass goes on without."
    )
    patience: float = Field(
        120,
        gt=0,
        description="Seconds without one answered call after which the same is done. A look at a target that is known to be quick is "
        "given up sooner, and so is one that was silent at the last try.",
    )
    watches: int = Field(
        64,
        ge=0,
        description="Pairs of a stack and a target that are watched between passes, where the driver can, so that drift is seen at once; "
        "each holds connections open. What is beyond, and everything with 0, is looked at every interval.",
    )


class Telemetry(Section):
    """Where traces and logs go."""

    exporter: Literal["none", "console", "file", "otlp"] = Field("none", description="Where spans go.")
    endpoint: Address = Field(
        "",
        description="OTLP over HTTP endpoint for traces; empty: the OTEL_* variables decide. What it asks of us goes into their headers.",
    )
    file: Path = Field(Path("traces.jsonl"), description="File for the exporter `file`, one span a line.")
    trace_url: Address = Field("", description="Address of a trace for people, with `{trace_id}` in it; shown in notices and by `status`.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What the daemon logs.")
    log_format: Literal["text", "json"] = Field("text", description="json adds the trace id to each line.")


class Slack(Section):
    """Slack by an app of your own: one card for each incident, edited in place, with its details in the thread and buttons."""

    bot_token: SecretStr = Field(SecretStr(""), description="Bot token of the app, `xoxb-...`; empty: only `slack_webhook` counts.")
    channel: str = Field(
        "", pattern=r"^([CG][A-Z0-9]{2,})?$", description="Id of the channel, as the channel's details show it: `C0123ABCD`."
    )
    signing_secret: SecretStr = Field(SecretStr(""), description="Signing secret of the app; empty: the cards have no buttons.")
    users: dict[str, str] = Field(
        default_factory=dict, description="Who may press buttons: member id such as `U0123ABCD` to the name that is written down."
    )
    api_url: Address = Field("https://slack.com/api/", pattern=r"^https?://\S+/$", description="Address of the Web API.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if bool(self.bot_token.get_secret_value()) is not bool(self.channel):
            raise ValueError("bot_token and channel go together; set both or neither")
        if self.signing_secret.get_secret_value() and not self.users:
            raise ValueError("signing_secret is set, but nobody may press a button; name them in users")
        if self.signing_secret.get_secret_value() and not self.channel:
            raise ValueError("signing_secret is set, but there are no cards without bot_token and channel")
        return self


class Notify(Section):
    """Who hears of it."""

    slack_webhook: SecretStr = Field(SecretStr(""), description="Slack incoming webhook URL: the minimal way, without cards or buttons.")
    slack: Slack = Slack()
    debounce: float = Field(30, ge=0, le=3600, description="Seconds that something must last before it is told; shorter troubles are not.")
    digest_hour: int | None = Field(
        7, ge=0, le=23, description="Hour (UTC) from which drift older than a day is listed, once a day; none: never."
    )
    link: Address = Field(
        "",
        description="Address of the page about a run, e.g. `https://reconciler.example.com/runs/{run}`; `{stack}`, `{revision}` and "
        "`{trace}` are filled in, too.",
    )

    @field_validator("link")
    @classmethod
    def _fillable(cls, link: str) -> str:
        try:
            shown = link.format(run="1", stack="s", revision="r", trace="t")
        except (KeyError, IndexError, ValueError):
            raise ValueError("may hold only {run}, {stack}, {revision} and {trace}") from None
        if link and not shown.startswith(("https://", "http://")):
            raise ValueError("must begin with https://")
        return link


class Settings(BaseSettings):
    """Everything that the program can be told. Environment variables win: ``RECONCILER_STATE__PATH=/var/lib/x.db``."""

    model_config = SettingsConfigDict(
        env_prefix="RECONCILER_", env_nested_delimiter="__", extra="forbid", frozen=True, nested_model_default_partial_update=True
    )

    instance: str = Field("default", pattern=r"^[a-z0-9][a-z0-9-]{0,19}$", description="Name of this installation, part of every mark.")
    fingerprint_key: SecretStr = Field(
        SecretStr("reconciler"),
        description="Keys the fingerprints of secrets: a long random text. With less than 16 characters nothing is noted of a value, "
        "and a write to one key of a shared path rewrites the consumers of all.",
    )
    repository: Repository = Repository()
    repositories: dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")], Repository] = Field(
        default_factory=dict, description="More repositories, by a name of your choice; each as `repository`. A stack lives in one of them."
    )
    targets: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        repr=False,
        description="Target name to its configuration; `driver` names the plugin when it differs from the target's name.",
    )
    state: State = State()
    engine: Engine = Engine()
    telemetry: Telemetry = Telemetry()
    notify: Notify = Notify()
    forge: Forge = Forge()
    http: Http = Http()

    @model_validator(mode="after")
    def _together(self) -> Self:
        buttons = bool(self.notify.slack.signing_secret.get_secret_value())
        if self.http.webhook_listen and not self.http.webhooks and not buttons:
            raise ValueError("http.webhook_listen is set, but no sender is in http.webhooks, and Slack has no signing_secret")
        if buttons and not (self.http.listen or self.http.webhook_listen):
            raise ValueError("notify.slack.signing_secret is set, but nothing listens; set http.webhook_listen or http.listen")
        return self

    @model_validator(mode="after")
    def _forges(self) -> Self:
        forges = self.forges()
        for name, one in self.sources().items():
            where = name if name == SINGLE else f"repositories.{name}"
            if one.forge.kind and name not in forges:
                raise ValueError(f"{where}.forge.repository: is missing")
            if one.pull_requests and name not in forges:
                own = "forge.kind" if name == SINGLE else f"forge.kind, and {where}.forge.repository"
                raise ValueError(f"{where}.pull_requests is set, but there is no forge to ask; set {own}")
        if self.forge.kind and not self.forge.repository and not forges:
            raise ValueError("forge.repository: is missing")
        return self

    def forges(self) -> dict[str, Forge]:
        """Give the forge of each repository that has one, by name: what a repository says of its own goes before ``forge``."""
        found, none = {}, Forge()
        for name, one in self.sources().items():
            base = self.forge if name == SINGLE else self.forge.model_copy(update={"repository": ""})
            own = {field: value for field in Forge.model_fields if (value := getattr(one.forge, field)) != getattr(none, field)}
            forge = base.model_copy(update=own)
            if forge.kind and forge.repository:
                found[name] = forge
        return found

    def sources(self) -> dict[str, Repository]:
        """Give every repository that is followed, by name; the single one is called ``repository``."""
        return ({SINGLE: self.repository} if self.repository.url else {}) | self.repositories

    @model_validator(mode="after")
    def _repositories(self) -> Self:
        for name, one in self.repositories.items():
            if not one.url:
                raise ValueError(f"repositories.{name}.url: is missing")
        if self.repository.url and SINGLE in self.repositories:
            raise ValueError(f"repositories.{SINGLE}: that is how the single repository is called; choose another name")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what ``load_settings`` gives: it merges the environment and the file itself."""
        return (init_settings,)


def load_settings(file: Path | None = None) -> Settings:
    """Read the settings; without ``file``, from ``reconciler.yaml`` when it exists. Raises SettingsError with every field that is wrong."""
    if file is not None and not file.is_file():
        raise SettingsError(f"{file}: does not exist")
    path = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    given = _from_file(path) if path is not None else {}
    problems: list[str] = []
    data = _with_files(_merged(given, _from_environment(given)), "", problems)
    try:
        settings = Settings(**data)
    except ValidationError as error:
        problems += [": ".join(filter(None, [".".join(map(str, one["loc"])), _said(one)])) for one in error.errors(include_input=False)]
    if problems:
        raise SettingsError("\n".join(f"{path or 'environment'}: {one}" for one in problems))
    return settings


def files_named(file: Path | None = None) -> dict[str, Path]:
    """Map each setting that is, or is read from, a file to that file, whether it is there or not; names are dotted.

    For whoever must notice that one was exchanged. Plain paths are looked for in the targets and the repositories only, and only files that
    exist are taken for paths. Raises SettingsError when the settings file cannot be read.
    """
    path = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    given = _from_file(path) if path is not None else {}
    return dict(_named(_merged(given, _from_environment(given)), ()))


def _named(value: Any, where: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _named(item, (*where, str(key)))
    elif isinstance(value, str | Path) and (text := str(value)):
        if text.startswith("file:/") and not text.startswith("file://"):
            yield ".".join(where), Path(text[5:])
        elif where[0] in ("targets", "repository", "repositories") and _is_file(text):
            yield ".".join(where), Path(text)


def _is_file(text: str) -> bool:
    try:
        return Path(text).is_file()
    except (OSError, ValueError):  # too long for a path, or with a NUL
        return False


def differing(before: Settings, after: Settings) -> list[str]:
    """List the dotted names of the settings whose values differ; never a value."""
    return sorted(_differing(before.model_dump(), after.model_dump(), ()))


def _differing(before: Any, after: Any, where: tuple[str, ...]) -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before.keys() | after.keys():
            yield from _differing(before.get(key), after.get(key), (*where, str(key)))
    elif before != after:
        yield ".".join(where)


def _said(error: Any) -> str:
    return "is not a setting" if error["type"] == "extra_forbidden" else str(error["msg"]).lower()


def _from_file(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise SettingsError(f"{path}:{line}: {error.problem or 'is not YAML'}") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SettingsError(f"{path}: cannot be read: {type(error).__name__}") from None
    if not isinstance(data or {}, dict):
        raise SettingsError(f"{path}: must be a mapping of settings")
    return {str(key): value for key, value in (data or {}).items()}


def _from_environment(given: dict[str, Any]) -> dict[str, Any]:
    """Read the environment. No shell has a dash in a name: ``UPTIME_KUMA`` means uptime-kuma unless the file says otherwise."""
    try:
        data = EnvSettingsSource(Settings)()
    except ValueError as error:
        raise SettingsError(f"environment: {str(error).splitlines()[0]}") from None
    named = given.get("targets")
    known = named if isinstance(named, dict) else {}
    if isinstance(targets := data.get("targets"), dict):
        data["targets"] = {name if name in known else name.replace("_", "-"): config for name, config in targets.items()}
    return data


def _merged(below: Any, above: Any) -> Any:
    """Lay one tree of settings over another, key by key."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: _merged(below.get(key), value) for key, value in above.items()}}


def _with_files(value: Any, where: str, problems: list[str]) -> Any:
    """Replace every ``file:PATH`` by the content of that file, without the newline at its end."""
    if isinstance(value, dict):
        return {key: _with_files(item, f"{where}.{key}" if where else str(key), problems) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_files(item, f"{where}.{number}", problems) for number, item in enumerate(value)]
    if isinstance(value, str) and value.startswith("file:/") and not value.startswith("file://"):
        try:
            return Path(value[5:]).read_text(encoding="utf-8").rstrip("\n")
        except (OSError, ValueError) as error:
            problems.append(f"{where}: {value[5:]} cannot be read: {getattr(error, 'strerror', '') or 'it is not UTF-8 text'}")
    return value
