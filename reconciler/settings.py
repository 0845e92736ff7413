"""The settings: one typed object from ``reconciler.yaml`` and the environment. The only room that reads the environment.

Desired state says *what*; settings say *where and with what right*. A value of the form ``file:/run/secrets/token`` is read from that file.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, YamlConfigSettingsSource

from reconciler.errors import SettingsError

DEFAULT_FILE = Path("reconciler.yaml")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Repository(_Section):
    """Where the desired state lives."""

    url: str = Field("", description="Git URL (https, ssh or file). Empty: only --path works.")
    branch: str = Field("main", description="The one branch that counts.")
    folder: str = Field("desired", description="Folder of the stacks inside the repository.")
    poll: float = Field(60, ge=1, description="Seconds between looks at the branch; a webhook makes it immediate.")
    timeout: float = Field(60, gt=0, description="Seconds until a git command is given up.")
    token: SecretStr = Field(SecretStr(""), description="Token for https, sent as a header; never part of the URL.")
    username: str = Field("git", description="User name that goes with the token; most forges ignore it.")
    ssh_key: Path | None = Field(None, description="Private key for ssh URLs.")
    known_hosts: Path | None = Field(None, description="Host keys for ssh URLs; they are always checked.")


class State(_Section):
    """What is remembered for people. Deleting it loses history only."""

    path: Path = Field(Path("reconciler.db"), description="SQLite file; WAL mode, one writer.")


class Engine(_Section):
    """How hard a pass tries."""

    attempts: int = Field(4, ge=1, le=20, description="Tries of one call that fails for a temporary reason.")
    backoff: float = Field(0.5, ge=0, description="Seconds before the second try; doubles each time, with jitter.")
    backoff_max: float = Field(30, ge=0, description="Longest wait between tries, in seconds; a server's own wish up to this is honoured.")
    poll: float = Field(0.5, gt=0, description="Seconds between looks while something that was written becomes healthy.")
    rounds: int = Field(5, ge=1, description="Passes run in a row while each makes the next possible.")
    workers: int = Field(8, ge=1, description="Targets observed and written at the same time.")


class Telemetry(_Section):
    """Where traces and logs go."""

    exporter: Literal["none", "console", "file", "otlp"] = Field("none", description="Where spans go.")
    endpoint: str = Field("", description="OTLP over HTTP endpoint for traces; empty: the OTEL_* variables decide.")
    file: Path = Field(Path("traces.jsonl"), description="File for the exporter `file`, one span a line.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What the daemon logs.")
    log_format: Literal["text", "json"] = Field("text", description="json adds the trace id to each line.")


class Notify(_Section):
    """Who hears of it."""

    slack_webhook: SecretStr = Field(SecretStr(""), description="Slack incoming webhook URL; empty: nothing is sent.")


class Settings(BaseSettings):
    """Everything that the program can be told. Environment variables win: ``RECONCILER_STATE__PATH=/var/lib/x.db``."""

    model_config = SettingsConfigDict(
        env_prefix="RECONCILER_", env_nested_delimiter="__", extra="forbid", frozen=True, nested_model_default_partial_update=True
    )

    instance: str = Field("default", pattern=r"^[a-z0-9][a-z0-9-]{0,19}$", description="Name of this installation, part of every mark.")
    fingerprint_key: SecretStr = Field(
        SecretStr("reconciler"), description="Keys fingerprints of secret versions, so that two installations cannot compare theirs."
    )
    repository: Repository = Repository()
    targets: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Target name to its configuration; `driver` names the plugin when it differs from the target's name.",
    )
    state: State = State()
    engine: Engine = Engine()
    telemetry: Telemetry = Telemetry()
    notify: Notify = Notify()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then the file given to ``load_settings``."""
        return (env_settings, init_settings)


def load_settings(file: Path | None = None) -> Settings:
    """Read the settings; without ``file``, from ``reconciler.yaml`` when it exists. Raises SettingsError with every field that is wrong."""
    if file is not None and not file.is_file():
        raise SettingsError(f"{file}: does not exist")
    path = file or (DEFAULT_FILE if DEFAULT_FILE.is_file() else None)
    try:
        data = YamlConfigSettingsSource(Settings, yaml_file=path)() if path is not None else {}
        return Settings(**_with_files(data, str(path)))
    except ValidationError as error:
        lines = (f"{path or 'environment'}: {'.'.join(str(part) for part in one['loc'])}: {one['msg'].lower()}" for one in error.errors())
        raise SettingsError("\n".join(lines)) from None
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(f"{path}: {str(error).splitlines()[0]}") from None


def _with_files(value: Any, where: str) -> Any:
    """Replace every ``file:PATH`` by the content of that file, without the newline at its end."""
    if isinstance(value, dict):
        return {key: _with_files(item, f"{where}: {key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_with_files(item, where) for item in value]
    if isinstance(value, str) and value.startswith("file:/") and not value.startswith("file://"):
        try:
            return Path(value[5:]).read_text(encoding="utf-8").rstrip("\n")
        except OSError as error:
            raise SettingsError(f"{where}: {value[5:]} cannot be read: {error.strerror}") from None
    return value
