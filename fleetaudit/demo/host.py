"""One running demo host: its files, its address, and the acceptor process that is its life."""

from __future__ import annotations

import dataclasses
import json
import os
import pwd
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from fleetaudit.demo.acceptor import Door
from fleetaudit.demo.keys import KeyPair, write_private
from fleetaudit.demo.namespaces import HOME
from fleetaudit.demo.plan import DemoError, Isolation, PlannedHost, PlannedService, Server

_HERE = Path(__file__).resolve().parent
_END_WITHIN = 15.0  # seconds; more than an acceptor allows its own children
_SSHD_CONFIG = f"""\
HostKey {HOME}/host_key
AuthorizedKeysFile {HOME}/authorized_keys
AuthenticationMethods publickey
PermitRootLogin prohibit-password
UsePAM no
UseDNS no
PermitTTY no
PermitUserRC no
AllowTcpForwarding no
AllowStreamLocalForwarding no
AllowAgentForwarding no
X11Forwarding no
LoginGraceTime 30
"""


def find_sshd() -> str | None:
    """The OpenSSH server's absolute path, which sshd insists on being started by."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"))
    found = shutil.which("sshd", path=path)
    return str(Path(found).absolute()) if found else None


def login_name(isolation: Isolation) -> str:
    """Whom to log in as: root of the host's own namespaces, or whoever runs the demo."""
    uid = os.geteuid() if isolation is Isolation.NONE else 0
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return "demo"  # a container may run as a uid without a name, and only the embedded server runs then


class RunningHost:
    """A live host. Its address is taken at once; from `start` it runs, from `await_ports` it serves."""

    def __init__(
        self, plan: PlannedHost, address: str, files: Path, isolation: Isolation, server: Server
    ) -> None:
        self.plan, self.address = plan, address
        self.host_key = KeyPair.generate()
        self._files, self._isolation, self._server = files, isolation, server
        self._listener = socket.create_server((address, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None

    def start(self, client_key: KeyPair) -> None:
        """Write the host's files and start its acceptor. Raises OSError."""
        (self._files / "root").mkdir(parents=True)
        self._files.chmod(0o700)
        self._write_server_files(client_key)
        package_parent = str(_HERE.parent.parent)
        inherited = os.environ.get("PYTHONPATH")
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([package_parent, inherited] if inherited else [package_parent]),
        }
        with self._listener, (self._files / "host.log").open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "fleetaudit.demo.acceptor"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                pass_fds=[self._listener.fileno()],
                start_new_session=True,  # Ctrl-C at the terminal is for the orchestrator
                cwd=self._files,  # python -m looks there first: nobody else's modules
                env=environment,
            )
            self._tell(json.dumps(dataclasses.asdict(self._door())) + "\n")

    def await_ports(self, deadline: float) -> Mapping[str, int]:
        """The port of each service, once all listen. Raises DemoError, also at the deadline (monotonic)."""
        output = self._process.stdout if self._process else None
        if output is None:
            raise DemoError(f"{self.plan.name}: was not started")
        ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise DemoError(f"{self.plan.name}: not ready in time")
        with output:
            line = output.readline()
        if not line:
            raise DemoError(f"{self.plan.name}: ended early; {self._last_words()}")
        said = json.loads(line)
        if "error" in said:
            raise DemoError(f"{self.plan.name}: {said['error']}")
        ports: Mapping[str, int] = said["ports"]
        return ports

    def let_go(self) -> None:
        """Have the host end, without waiting for it."""
        self._listener.close()
        if self._process and self._process.stdin:
            self._process.stdin.close()

    def end(self) -> None:
        """End the host; when this returns none of its processes is left."""
        self.let_go()
        if self._process is None:
            return
        try:
            self._process.wait(_END_WITHIN)
        except subprocess.TimeoutExpired:
            self._process.kill()  # its init reads end of file, and the kernel kills the rest
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def _tell(self, line: str) -> None:
        if self._process and self._process.stdin:
            try:
                self._process.stdin.write(line)
                self._process.stdin.flush()
            except BrokenPipeError:
                pass  # it ended already, and await_ports says why

    def _door(self) -> Door:
        # The real interpreter: a virtual environment's name for it says nothing on a host, and -S ignores it.
        isolated_python = (os.path.realpath(sys.executable), "-I", "-S")
        return Door(
            name=self.plan.name,
            listener=self._listener.fileno(),
            isolated=self._isolation is not Isolation.NONE,
            user_namespace=self._isolation is Isolation.USER_NAMESPACES,
            root=str(self._files / "root"),
            home=str(self._files),
            covered=("passwd", "shadow") if self._server is Server.OPENSSH else (),
            session=self._session(),
            init=(*isolated_python, str(_HERE / "init.py")),
            services=tuple(self._service(service, isolated_python) for service in self.plan.services),
        )

    def _service(self, service: PlannedService, python: tuple[str, ...]) -> dict[str, object]:
        isolated = self._isolation is not Isolation.NONE
        listen = ("0.0.0.0", str(service.port)) if isolated else ("127.0.0.1", "0")  # noqa: S104  (own namespace)
        program = str(_HERE / "services" / service.program)
        return {"name": service.program, "argv": (*python, program, *listen), "ends": service.ends}

    def _session(self) -> tuple[str, ...]:
        if self._server is Server.OPENSSH:
            return (find_sshd() or "sshd", "-i", "-f", f"{HOME}/sshd_config", "-E", f"{HOME}/sshd.log")
        return (sys.executable, "-m", "fleetaudit.demo.embedded", f"{self._inside()}/embedded.json")

    def _inside(self) -> str:
        return str(self._files) if self._isolation is Isolation.NONE else HOME

    def _write_server_files(self, client_key: KeyPair) -> None:
        write_private(self._files / "host_key", self.host_key.private)
        if self._server is Server.EMBEDDED:
            config = {
                "user": login_name(self._isolation),
                "host_key": f"{self._inside()}/host_key",
                "authorized_key": client_key.blob,
            }
            write_private(self._files / "embedded.json", json.dumps(config).encode())
            return
        write_private(self._files / "authorized_keys", client_key.public.encode() + b"\n")
        write_private(self._files / "sshd_config", _SSHD_CONFIG.encode())
        # Root with a plain shell that runs no start-up files, and not locked: sshd without PAM refuses a
        # locked account even with a key. These cover the machine's own files inside only.
        accounts = Path("/etc/passwd").read_text(encoding="utf-8", errors="surrogateescape")
        plain = re.sub(r"(?m)^((?:[^:\n]*:){2}0:(?:[^:\n]*:){3})[^:\n]*$", r"\1/bin/sh", accounts)
        passwd = self._files / "passwd"
        passwd.write_text(plain, encoding="utf-8", errors="surrogateescape")
        passwd.chmod(0o644)
        write_private(
            self._files / "shadow", f"{login_name(self._isolation)}:*:19000:0:99999:7:::\n".encode()
        )

    def _last_words(self) -> str:
        log = self._files / "host.log"
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "it wrote nothing to its log")
