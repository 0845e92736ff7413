"""The pod's half: real Postfix and Dovecot, set up from what the cluster would mount, in the order in which docker-mailserver 15 does it.

The stock configuration stands in for the image: the services and restrictions that its documentation names. Everything else is taken
from the ConfigMaps and Secrets, and user-patches.sh is run as it is. No spam filter, no name lookups, and a short wait in postscreen.
"""

import os
import pwd
import re
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.mailpath.hops import POD
from tests.e2e.mailpath.process import Server, wait_for

PORTS = (25, 465, 587, 993, 2525, 4465, 5587, 10993)
DAEMONS = Path("/usr/lib/postfix/sbin")

STOCK_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/spool
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {root}/mail.log
maillog_file_prefixes = {root}
inet_interfaces = {pod}
inet_protocols = {POSTFIX_INET_PROTOCOLS}
myhostname = {OVERRIDE_HOSTNAME}
mydestination = localhost
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
relayhost = {DEFAULT_RELAY_HOST}
virtual_mailbox_domains = {domain}
virtual_mailbox_maps = texthash:{root}/postfix/vmailbox
virtual_alias_maps = texthash:{root}/postfix/virtual
virtual_transport = lmtp:unix:{root}/lmtp
smtpd_tls_cert_file = {SSL_CERT_PATH}
smtpd_tls_key_file = {SSL_KEY_PATH}
smtpd_tls_security_level = may
smtpd_sasl_type = dovecot
smtpd_sasl_path = {root}/auth
smtpd_relay_restrictions = permit_mynetworks permit_sasl_authenticated defer_unauth_destination
smtpd_recipient_restrictions = permit_sasl_authenticated, permit_mynetworks, reject_unauth_destination
smtpd_peername_lookup = no
postscreen_greet_action = enforce
postscreen_greet_wait = 1s
"""
SUBMISSION = """\
  -o syslog_name=postfix/{name}
  -o smtpd_tls_security_level=encrypt
  -o smtpd_sasl_auth_enable=yes
  -o smtpd_client_restrictions=permit_sasl_authenticated,reject
"""
STOCK_MASTER = (
    """\
smtp inet n - n - 1 postscreen
smtpd pass - - n - - smtpd
tlsproxy unix - - n - 0 tlsproxy
dnsblog unix - - n - 0 dnsblog
submission inet n - n - - smtpd
"""
    + SUBMISSION.format(name="submission")
    + "submissions inet n - n - - smtpd\n"
    + SUBMISSION.format(name="submissions")
    + """\
  -o smtpd_tls_wrappermode=yes
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
error unix - - n - - error
retry unix - - n - - error
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
)
STOCK_DOVECOT = """\
base_dir = {root}/dovecot-run
state_dir = {root}/dovecot-state
log_path = {root}/dovecot.log
listen = {pod}
protocols = imap lmtp
ssl = required
ssl_cert = <{SSL_CERT_PATH}
ssl_key = <{SSL_KEY_PATH}
mail_location = maildir:{root}/mail/%d/%n
first_valid_uid = 1
passdb {{
  driver = passwd-file
  args = username_format=%u {root}/userdb
}}
userdb {{
  driver = passwd-file
  args = username_format=%u {root}/userdb
}}
service lmtp {{
  unix_listener {root}/lmtp {{
    mode = 0666
  }}
}}
service auth {{
  unix_listener {root}/auth {{
    mode = 0666
  }}
}}
service imap-login {{
  inet_listener imap {{
    port = 0
  }}
}}
!include {root}/local.conf
"""
QUEUES = ("active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace")


class MailHost:
    """One pod of the mail server, with all its files below ``root``, which every account must be able to enter."""

    def __init__(self, root: Path, environment: Mapping[str, str], mounts: Mapping[str, str]) -> None:
        """``environment`` is the container's; ``mounts`` maps the path of each mounted file to its text."""
        self.root = root
        self._mounts = {path: self._placed(text) for path, text in mounts.items()}
        domain = environment["POSTMASTER_ADDRESS"].rpartition("@")[2]
        own = {name: self._placed(value) for name, value in environment.items()}
        self._words = {**own, "root": str(root), "pod": POD, "domain": domain}
        self.log, self.imap_log = root / "mail.log", root / "dovecot.log"

    def _placed(self, text: str) -> str:
        return text.replace("/etc/dms/", f"{self.root}/dms/").replace("/tmp/docker-mailserver/", f"{self.root}/config/")

    def _config(self, name: str) -> str:
        return self._mounts[f"/tmp/docker-mailserver/{name}"]

    # -- life ----------------------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Write every file, and run user-patches.sh last, as the image does right before the daemons start."""
        for path, text in self._mounts.items():
            target = Path(self._placed(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        self._accounts()
        self._dovecot()
        self._postfix()
        self.patch()

    def start(self) -> None:
        """Start both; returns when all eight listeners answer."""
        dovecot, master = shutil.which("dovecot", path="/usr/sbin"), DAEMONS / "master"
        assert dovecot is not None
        self._servers = [
            Server([dovecot, "-F", "-c", self.root / "dovecot.conf"], self.root / "dovecot.out", self.imap_log),
            Server([master, "-s", "-c", self.root / "postfix"], self.root / "postfix.out", self.log),
        ]
        wait_for({(POD, port): self._servers[0 if port % 1000 == 993 else 1] for port in PORTS})

    def stop(self) -> None:
        """End both."""
        for server in reversed(self._servers):
            server.stop()

    def patch(self) -> None:
        """Run user-patches.sh against the private configuration."""
        script = self.root / "config" / "user-patches.sh"
        self._run("bash", str(script))

    def postconf(self, *words: str) -> str:
        """Ask or change the private configuration."""
        return self._run("postconf", *words)

    def reload(self) -> None:
        """Let Postfix read its configuration again."""
        self._run("postfix", "reload")
        time.sleep(0.3)

    def _run(self, *words: str) -> str:
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "MAIL_CONFIG": str(self.root / "postfix")}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout

    # -- what the image's start script does -----------------------------------------------------------------------------------

    def _accounts(self) -> None:
        (self.root / "postfix").mkdir()
        owner = pwd.getpwnam("nobody")
        mail = self.root / "mail"
        mail.mkdir()
        os.chown(mail, owner.pw_uid, owner.pw_gid)
        users, boxes = [], []
        for line in self._config("postfix-accounts.cf").splitlines():
            address, _, stored = line.partition("|")
            name, _, domain = address.partition("@")
            users.append(f"{address}:{stored}:{owner.pw_uid}:{owner.pw_gid}::{mail}/{domain}/{name}::\n")
            boxes.append(f"{address} {domain}/{name}/\n")
        (self.root / "userdb").write_text("".join(users))
        (self.root / "postfix" / "vmailbox").write_text("".join(boxes))
        (self.root / "postfix" / "virtual").write_text(self._config("postfix-virtual.cf"))

    def _dovecot(self) -> None:
        (self.root / "local.conf").write_text(self._config("dovecot.cf"))
        (self.root / "dovecot.conf").write_text(STOCK_DOVECOT.format(**self._words))

    def _postfix(self) -> None:
        folder, owner = self.root / "postfix", pwd.getpwnam("postfix")
        (folder / "main.cf").write_text(STOCK_MAIN.format(**self._words))
        (folder / "master.cf").write_text(STOCK_MASTER)
        spool, data = self.root / "spool", self.root / "data"
        for path in (spool, data, spool / "pid", *(spool / name for name in QUEUES)):
            path.mkdir()
        for path in (data, *(spool / name for name in QUEUES)):
            os.chown(path, owner.pw_uid, -1)
            path.chmod(0o700)
        for name, mode in (("public", 0o710), ("maildrop", 0o1730)):
            (spool / name).mkdir()
            shutil.chown(spool / name, "postfix", "postdrop")
            (spool / name).chmod(mode)
        if self._words["PERMIT_DOCKER"] == "none":
            self.postconf("-e", "mynetworks =")
        with (folder / "main.cf").open("a") as file:
            file.write(self._config("postfix-main.cf"))
        (folder / "main.cf").write_text(self._run("postconf", "-nf"))

    # -- looking --------------------------------------------------------------------------------------------------------------

    def wait_for_line(self, pattern: str, patience: float = 5, *, imap: bool = False) -> str:
        """Give the first line of Postfix's or Dovecot's log that matches; raises AssertionError with the log."""
        log, end = self.imap_log if imap else self.log, time.monotonic() + patience
        while time.monotonic() < end:
            if found := re.search(rf"^.*{pattern}.*$", log.read_text(), re.MULTILINE):
                return found[0]
            time.sleep(0.05)
        raise AssertionError(f"no line of the log matches {pattern}:\n{log.read_text()}")
