"""The settings of a repository: where it lies, who may be believed in it, and the forge in front of it. Values only."""

from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from reconciler.resource import Address


class Section(BaseModel):
    """A part of the settings: what it does not know it refuses, and nobody changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Signatures(Section):
    """Which commits must be signed, and by whom. Keys are read from outside of the repository."""

    policy: Literal["none", "head", "strict"] = Field(
        "none", description="`head`: the newest commit must be signed; `strict`: every new commit since the last good one, too."
    )
    allowed_signers: Path | None = Field(None, description="Allowed signers file for SSH signatures, as ssh-keygen(1) describes it.")
    gpg_keys: Path | None = Field(None, description="File of OpenPGP public keys; a signature by any of them counts.")
    gnupg_home: Path | None = Field(None, description="GnuPG home whose own trust settings count; instead of `gpg_keys`.")
    since: str = Field(
        "", pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$", description="`strict` begins after this commit; empty: at the first commit of all."
    )

    @model_validator(mode="after")
    def _has_keys(self) -> Self:
        if self.policy != "none" and not (self.allowed_signers or self.gpg_keys or self.gnupg_home):
            raise ValueError("no signature can count without allowed_signers, gpg_keys or gnupg_home; set one of them")
        if self.gpg_keys and self.gnupg_home:
            raise ValueError("give gpg_keys or gnupg_home, not both")
        return self


class Forge(Section):
    """The program in front of a repository that shows commit statuses and pull requests."""

    kind: Literal["", "github", "gitea", "gitlab"] = Field("", description="`github`, `gitea` (Forgejo, too) or `gitlab`; empty: none.")
    url: Address = Field(
        "",
        description="Address of its API: `https://api.github.com`, `https://git.example.com/api/v1`, `https://gitlab.example.com/api/v4`.",
    )
    token: SecretStr = Field(
        SecretStr(""),
        description="Token that may write commit statuses and comments, with `propose` also open pull requests; nothing else.",
    )
    repository: str = Field("", description="`owner/name`, or the whole path of a GitLab project.")
    authors: tuple[str, ...] = Field(
        (), description="Who may have a pull request from another repository planned. Those from branches of this one always are."
    )

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.kind and not (self.url and self.token.get_secret_value()):
            raise ValueError("url and token are needed with kind")
        if self.url and not self.url.startswith(("https://", "http://127.0.0.1", "http://localhost")):
            raise ValueError("url must begin with https://, or the token would be readable on the way")
        return self


class Repository(Section):
    """Where the desired state lives."""

    url: str = Field("", description="Git URL (https, ssh or file). Empty: only --path works.")
    branch: str = Field("main", description="The one branch that counts.")
    tag: str = Field("", description="Follow this tag instead of a branch.")
    depth: int = Field(0, ge=0, description="Commits that a new mirror begins with; 0: all of them.")
    folder: str = Field("desired", description="Folder of the stacks inside the repository.")
    poll: float = Field(60, ge=1, description="Seconds between looks at the branch.")
    timeout: float = Field(60, gt=0, description="Seconds until a git command is given up.")
    token: SecretStr = Field(SecretStr(""), description="Token for https, sent as a header; never part of the URL.")
    username: str = Field("git", description="User name that goes with the token; most forges ignore it.")
    ssh_key: Path | None = Field(None, description="Private key for ssh URLs.")
    known_hosts: Path | None = Field(None, description="Host keys for ssh URLs; they are always checked.")
    ca_file: Path | None = Field(None, description="Certificate authority of an https server that the system does not know.")
    propose: bool = Field(
        False,
        description="Push what somebody acknowledges or adopts by a button as a new branch `reconciler/...`, and open a pull request where "
        "there is a `forge`; the credentials must allow that. Without it the text is given in the thread.",
    )
    pull_requests: bool = Field(False, description="Plan what open pull requests would bring, as a comment there; needs `forge`.")
    signatures: Signatures = Signatures()
    forge: Forge = Field(Forge(), description="What is different of `forge` for this repository: at least its `repository` there.")

    @model_validator(mode="after")
    def _whole_history(self) -> Self:
        if self.depth and self.signatures.policy == "strict":
            raise ValueError("strict signatures need all of history; take depth out, or set signatures.policy to head")
        return self
