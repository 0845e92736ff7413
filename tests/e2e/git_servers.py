"""Real git servers on loopback: git's own http-backend behind TLS and a login, and OpenSSH's sshd."""

import base64
import functools
import http.server
import os
import shlex
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reconciler_probe.emulator.certificate import make_certificate

TOKEN = "t0ken-canary"
SSHD = next((path for path in ("/usr/sbin/sshd", shutil.which("sshd") or "") if path and Path(path).exists()), "")


class HttpBackend:
    """Serves every repository below ``root`` for reading and writing; ``fault`` is called with each request and may answer it itself."""

    def __init__(self, root: Path, work: Path) -> None:
        self.fault: Callable[[Any], bool] = lambda handler: False
        self.ca_file = work / "ca.pem"
        context = make_certificate(self.ca_file, ["127.0.0.1"], 1)
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, self, root))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    """Asks for the login and hands the rest to git."""

    protocol_version = "HTTP/1.1"

    def __init__(self, backend: HttpBackend, root: Path, *arguments: Any) -> None:
        self.backend, self.root = backend, root
        super().__init__(*arguments)

    def do_GET(self) -> None:
        if self.backend.fault(self):
            return
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(f"git:{TOKEN}".encode()).decode():
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="git"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.answer(cgi(self.root, self.command, self.path, dict(self.headers), self.body()))

    do_POST = do_GET  # noqa: N815 - the name is that of http.server

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, output: bytes) -> None:
        head, _, body = output.partition(b"\r\n\r\n")
        headers = [line.split(": ", 1) for line in head.decode().splitlines()]
        self.send_response(next((int(value.split()[0]) for name, value in headers if name == "Status"), 200))
        for name, value in headers:
            if name != "Status":
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        return


def cgi(root: Path, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    path, _, query = target.partition("?")
    environment = {
        "PATH": os.environ["PATH"],
        "GIT_PROJECT_ROOT": str(root),
        "GIT_HTTP_EXPORT_ALL": "1",
        "REMOTE_USER": "git",  # which lets http-backend take a push
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "CONTENT_TYPE": headers.get("Content-Type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_CONTENT_ENCODING": headers.get("Content-Encoding", ""),
        "GIT_PROTOCOL": headers.get("Git-Protocol", ""),
        "HOME": str(root),
    }
    return subprocess.run(["git", "http-backend"], env=environment, input=body, capture_output=True, check=True).stdout


def keygen(file: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(file)], check=True)
    return file


class Sshd:
    """OpenSSH on loopback, as the user who runs the tests, with one key that may do git and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host_key, self.key = keygen(folder / "host"), keygen(folder / "client")
        (folder / "authorized").write_text(self.key.with_suffix(".pub").read_text())
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = int(one.getsockname()[1])
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        config = self.folder / "sshd_config"
        lines = {
            "ListenAddress": f"127.0.0.1:{self.port}",
            "HostKey": self.host_key,
            "AuthorizedKeysFile": self.folder / "authorized",
            "PidFile": "none",
            "StrictModes": "no",
            "UsePAM": "no",
            "PasswordAuthentication": "no",
            "KbdInteractiveAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
        }
        config.write_text("".join(f"{name} {value}\n" for name, value in lines.items()))
        Path("/run/sshd").mkdir(parents=True, exist_ok=True)
        self.log = (self.folder / "sshd.log").open("ab")
        self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "sshd.log").read_text()
                time.sleep(0.02)

    def new_host_key(self) -> None:
        self.stop()
        for file in (self.host_key, self.host_key.with_suffix(".pub")):
            file.unlink()
        keygen(self.host_key)
        self.start()

    def known_hosts(self) -> Path:
        file = self.folder / "known_hosts"
        kind, key, *_ = self.host_key.with_suffix(".pub").read_text().split()
        file.write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")
        return file

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(timeout=10)
            self.process = None
            self.log.close()

    def url(self, repository: Path) -> str:
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        return f"ssh://{shlex.quote(user)}@127.0.0.1:{self.port}{repository}"
