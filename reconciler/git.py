"""How git is called: fixed arguments, a clean environment, a deadline, and no way for a repository to run anything here.

This room only runs the program; what is fetched and read with it is decided in ``source``.
"""

import base64
import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from reconciler.errors import SettingsError, SourceError
from reconciler.resource import SecretValue

HEX = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
BRANCH = re.compile(r"(?!.*(?:\.\.|//|@\{|\.lock(?:/|$)|/\.|[./]$))[A-Za-z0-9_][A-Za-z0-9._/+@#=-]*")
SCP_LIKE = re.compile(r"[A-Za-z0-9_][\w.-]*@[A-Za-z0-9][\w.-]*:(?!//).+")

HARDENING = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.quotePath": "false",
    "transfer.fsckObjects": "true",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "log.showSignature": "false",
    "http.followRedirects": "false",
}
"""Settings that keep a repository from running anything here. Redirects are off because a credential would follow them."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """How to identify ourselves to the git server.

    ``token`` goes with ``username`` to an https server; ``ssh_key`` and ``known_hosts`` are files for an ssh server, whose host key must
    be known; ``ca_file`` holds the authorities of an https server that the system does not trust. Nothing of this ever appears in an
    argument list or in a file of the mirror.
    """

    token: SecretValue | None = None
    username: str = "git"
    ssh_key: Path | None = None
    known_hosts: Path | None = None
    ca_file: Path | None = None

    def environment(self) -> dict[str, str]:
        """Give the variables that ssh needs."""
        options = ["BatchMode=yes", "StrictHostKeyChecking=yes", "ConnectTimeout=10"]
        command = ["ssh"]
        if self.ssh_key:
            command += ["-F", "/dev/null", "-i", str(self.ssh_key)]
            options.append("IdentitiesOnly=yes")
        if self.known_hosts:
            options.append(f"UserKnownHostsFile={self.known_hosts}")
        for option in options:
            command += ["-o", option]
        return {"GIT_SSH_COMMAND": shlex.join(command), "GIT_SSH_VARIANT": "ssh"}

    def secrets(self) -> tuple[SecretValue, ...]:
        """Give what no message may quote: the header in which the token goes, whole, and the token."""
        return () if self.token is None else (SecretValue(_basic(self.username, self.token)), self.token)

    def configuration(self, url: str) -> dict[str, str]:
        """Give the git settings that https needs; the header is bound to the server of ``url``."""
        found = {"http.sslCAInfo": str(self.ca_file)} if self.ca_file else {}
        if self.token is not None and url.startswith("https://"):
            server = "/".join(url.split("/", 3)[:3])
            found[f"http.{server}/.extraHeader"] = f"Authorization: Basic {_basic(self.username, self.token)}"
        return found


def _basic(username: str, token: SecretValue) -> str:
    return base64.b64encode(f"{username}:{token.reveal()}".encode()).decode()


@dataclass(frozen=True)
class Git:
    """Runs git with fixed arguments, a clean environment and a deadline; ``where`` names the repository in messages."""

    where: str
    timeout: float = 60.0
    environment: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[SecretValue, ...] = ()
    allow_file: bool = False

    def run(self, *arguments: str, cwd: Path | None = None, data: bytes = b"") -> bytes:
        """Give standard output. Raises SourceError when git fails or is not done after ``timeout`` seconds."""
        try:
            process = subprocess.Popen(  # noqa: S603 - fixed program, no shell, arguments checked by the callers
                ["git", *arguments],  # noqa: S607 - which git is the machine's choice
                cwd=cwd, env=self.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except FileNotFoundError:
            raise SourceError("git is not installed; install it or put it on the path") from None
        try:
            output, errors = process.communicate(data, self.timeout)
        except subprocess.TimeoutExpired:
            # git leaves the work to children that hold our pipes, so that killing git alone would wait for them
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise SourceError(f"{self.where}: no answer within {self.timeout:g} s; check the address and the network") from None
        if process.returncode:
            words = self.mask(errors)
            raise SourceError(f"{self.where}: git {arguments[0]} failed: {words}{advice(words)}")
        return output

    def env(self) -> dict[str, str]:
        """Build the whole environment: nothing of the caller's git settings, everything of the hardening."""
        kept = ("PATH", "HOME", "SSH_AUTH_SOCK", "SSL_CERT_FILE", "SSL_CERT_DIR", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY")
        allowed = ("https", "ssh", "file") if self.allow_file else ("https", "ssh")
        config = {**HARDENING, "protocol.allow": "never", **{f"protocol.{name}.allow": "always" for name in allowed}, **self.configuration}
        env = {name: os.environ[name] for name in kept if name in os.environ}
        env |= {
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": ":".join(allowed),
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_CONFIG_COUNT": str(len(config)),
        }
        for index, (key, value) in enumerate(config.items()):
            env |= {f"GIT_CONFIG_KEY_{index}": key, f"GIT_CONFIG_VALUE_{index}": value}
        return env | dict(self.environment)

    def mask(self, errors: bytes) -> str:
        """Give git's own words on one line, without anything that identifies us."""
        text = "; ".join(line.strip() for line in errors.decode("utf-8", "replace").splitlines() if line.strip())
        for secret in self.secrets:
            text = secret.out_of(text)
        return masked(text)[:1000]


ADVICE = {
    "could not read Username": "the server wants a login; set the token, or check that it is still valid",
    "Authentication failed": "the server refused the login; check the token and its rights",
    "Permission denied (publickey": "the server refused the key; check the ssh key and its rights",
    "HOST IDENTIFICATION HAS CHANGED": "the server shows another key than before; find out why before you replace it in the known hosts",
    "Host key verification failed": "the server's key is not known; add it to the known hosts",
    "certificate verification failed": "the server's certificate is not trusted; name its authority as the CA file",
    "dubious ownership": "the repository belongs to another user of this machine; run as that user",
    "returned error: 30": "the repository has moved; set its new address",
    "Could not resolve host": "the name of the server is not known; check the address and the network",
    "Couldn't connect to server": "the server does not answer there; check the address, and whether it runs",
    "Connection refused": "the server does not answer there; check the address, and whether it runs",
    "No space left on device": "the disk is full; make room, nothing else is lost",
    "index-pack failed": "the server sent a pack that cannot be read; the next look asks again",
    "protected branch": "the branch is protected; choose another name",
    "stale info": "a branch of this name is there already; choose another one",
    "write access": "the login may read only; give it the right to write, or make the branch by hand",
}
"""What git says -> what to do."""


def advice(words: str) -> str:
    """Say what to do about git's words, where that is known."""
    return next((f"; {help}" for sign, help in ADVICE.items() if sign in words), "")


def masked(text: str) -> str:
    """Give ``text`` without the user part of any address in it, also where a password holds a slash, which nobody should write so."""
    return re.sub(r"(\w://)(?:[^/\s]+|[^/\s:]*:(?!\d+(?:/|\s|$))\S*)@", r"\1***@", text)


def commit_id(text: str) -> str:
    """Give ``text`` if it is a full commit id. Raises SourceError when it is not."""
    if not HEX.fullmatch(text):
        raise SourceError(f"{text!r} is not a commit id; give all 40 or 64 lower-case hexadecimal digits")
    return text


def check_url(url: str, *, allow_file: bool) -> None:
    """Refuse every address that git could take for something else. Raises SettingsError."""
    if url.startswith("file:///"):
        if not allow_file:
            raise SettingsError(f"{url}: a repository on this machine is used only when the settings allow it")
    elif url.startswith("https://"):
        if "@" in url.split("/", 3)[2]:
            raise SettingsError(f"{masked(url)}: a credential in the address would be logged; give it as the token")
        _check_port(url.split("/", 3)[2])
    elif not (re.match(r"ssh://[A-Za-z0-9_]", url) or SCP_LIKE.fullmatch(url)):
        raise SettingsError(f"{masked(url)}: the address must begin with https:// or ssh:// or be user@host:path")
    elif url.startswith("ssh://"):
        user, _, host = url.split("/", 3)[2].rpartition("@")
        if ":" in user:
            raise SettingsError(f"{masked(url)}: ssh takes no password from an address; give the ssh key")
        _check_port(host)
    if not url.isprintable() or " " in url:
        raise SettingsError(f"{masked(url)}: the address holds a blank or a character that cannot be shown")


def _check_port(server: str) -> None:
    """Refuse a server that ends with no port. It is not shown: it may be a password with a slash in it, up to that slash."""
    host, colon, port = server.rpartition(":")
    if colon and not server.endswith("]") and not (host and port.isascii() and port.isdigit()):
        raise SettingsError(
            "the address of the repository: there is no port behind the colon; a password is given as the token, never there"
        )


def check_branch(branch: str) -> None:
    """Refuse what is not the plain name of a branch. Raises SettingsError."""
    if not BRANCH.fullmatch(branch):
        raise SettingsError(f"{branch!r} is not a branch name; write it without refs/heads/, e.g. main")
