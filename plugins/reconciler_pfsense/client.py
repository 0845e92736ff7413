"""One SSH connection to a firewall, used as a plain function: a program goes in, its output comes out.

The only importer of asyncssh. It runs an event loop in a thread of its own, because the callers are synchronous.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import asyncssh

from reconciler.errors import Permanent, Transient
from reconciler.resource import JSONObject
from reconciler_pfsense.agent import Program, read_answer
from reconciler_pfsense.config import Config

T = TypeVar("T")


@contextmanager
def _translated(target: str) -> Iterator[None]:
    """Turn what asyncssh and the network raise into Transient or Permanent. Messages name the target and no credential."""
    try:
        yield
    except asyncssh.HostKeyNotVerifiable:
        raise Permanent(
            f"{target}: the host key is not the one in known_hosts; if the firewall was reinstalled, compare the new key on its console"
        ) from None
    except asyncssh.PermissionDenied:
        raise Permanent(f"{target}: the login was refused; check username and key or password, and that SSH is enabled") from None
    except asyncssh.KeyExchangeFailed as error:
        raise Permanent(f"{target}: no common SSH algorithm: {error.reason}") from None
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError):
        raise Permanent(f"{target}: the private key cannot be read; check the key and its passphrase") from None
    except (FileNotFoundError, PermissionError) as error:
        raise Permanent(f"{target}: {error.filename} cannot be read: {error.strerror}") from None
    except ValueError:
        raise Permanent(f"{target}: known_hosts is not in the form of an OpenSSH known_hosts file") from None
    except TimeoutError:
        raise Transient(f"{target}: no answer in time; whether anything was done is not known") from None
    except (OSError, asyncssh.Error) as error:
        words = getattr(error, "strerror", None) or getattr(error, "reason", None) or type(error).__name__
        raise Transient(f"{target}: the connection failed: {words}") from None


class Client:
    """Runs programs on one firewall. Connects when first used, and again after the connection is gone; never repeats a program."""

    def __init__(self, config: Config) -> None:
        """Take the target's settings; nothing is opened yet."""
        self.config = config
        self.target = f"{config.host}:{config.port}"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._connection: asyncssh.SSHClientConnection | None = None

    def run(self, program: Program) -> JSONObject:
        """Execute ``program`` once. Raises Transient, Conflict or Permanent."""
        with _translated(self.target):
            output, status = self._wait(self._execute(program.script))
        return read_answer(self.target, program, output, status)

    def close(self) -> None:
        """Close the connection and end the thread."""
        if self._loop is None or self._thread is None:
            return
        with _translated(self.target):
            self._wait(self._disconnect())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()
        self._loop = self._thread = None

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run ``work`` in the loop's thread, with the deadline of the settings."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=f"ssh-{self.target}", daemon=True)
            self._thread.start()
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, self.config.timeout), self._loop).result()

    async def _execute(self, text: str) -> tuple[str, int | None]:
        connection = await self._connected()
        try:
            process = await connection.create_process(self.config.php, encoding=None)
            with suppress(BrokenPipeError):  # a command that ends at once has closed its input; its exit code says why
                process.stdin.write(text.encode())
                process.stdin.write_eof()
            done = await process.wait(check=False)
        except BaseException:
            await self._disconnect()
            raise
        output = done.stdout if isinstance(done.stdout, bytes) else b""
        return output.decode("utf-8", "replace"), done.exit_status

    async def _connected(self) -> asyncssh.SSHClientConnection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await asyncssh.connect(self.config.host, self.config.port, **self._options())
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()
            await connection.wait_closed()

    def _options(self) -> dict[str, Any]:
        """Trust only what the settings name: no agent, no files of the user who runs this."""
        config = self.config
        inline = not config.known_hosts.startswith("/")
        return {
            "username": config.username,
            "password": config.password.get_secret_value() if config.password else None,
            "client_keys": [self._key()] if config.password is None else None,
            "known_hosts": asyncssh.import_known_hosts(config.known_hosts) if inline else config.known_hosts,
            "config": None,
            "agent_path": None,
            "keepalive_interval": 15,
        }

    def _key(self) -> asyncssh.SSHKey:
        config = self.config
        text = config.private_key.get_secret_value() if config.private_key else Path(config.private_key_file or "").read_text("utf-8")
        return asyncssh.import_private_key(text, config.passphrase.get_secret_value() if config.passphrase else None)
