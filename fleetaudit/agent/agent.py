r"""The fleetaudit agent: every owner of every listening socket of this host, as one JSON document.

Run it on the host to be looked at, best as root:  python3 -I -S - < agent.py

Promises
- It writes nothing on the host, opens no network connection and leaves no process behind.
- It reads /proc, asks the kernel over NETLINK_SOCK_DIAG, enters other network namespaces only to ask there,
  and never follows a descriptor to the file behind it, so a hung file system cannot hang it.
- What it could not see is in `coverage`; it never guesses. A field that could not be read is left out
  (unknown); null means "known to be none".
- CPU, wall time, memory and output are bounded.

Output, on stdout, exit status 0:

    \nFLEETAUDIT-BEGIN <nonce> <length> <sha256>\n<length bytes of ASCII JSON>\nFLEETAUDIT-END <nonce>\n

The JSON is `fleetaudit.snapshot/1` (docs/agent.md), or after a crash `fleetaudit.agent-error/1`. The
controller may put one line `FLEETAUDIT = {...}` before this source; `Config` lists its keys.

One source for Python 3.6 and later. Imports are C modules only: with -S that keeps start-up at some 10 ms.
"""

import _socket
import errno
import posix
import sys
import time
from _struct import pack, unpack_from

StructError = __import__("_struct").error  # no type stub names it

# ---------------------------------------------------------------- constants

SCHEMA = "fleetaudit.snapshot/1"
ERROR_SCHEMA = "fleetaudit.agent-error/1"
TEXT_LIMIT = 4096  # bytes of one string
ARGV_LIMIT = 32768  # bytes of one command line
FILE_LIMIT = 4 << 20  # bytes taken of any file
COPY_LIMIT = 4 << 20  # an executable larger than this is not compared with shells by content
CATCH_UP_ROUNDS = 3
DUMP_ATTEMPTS = 3
READLINK_BATCH = 8192
STRANGERS_FEW = 1000  # from here on listing connections is cheaper than asking each socket where it lives
STRANGERS_LIMIT = 8192  # sockets that are asked at most, some 15 us each

CAP_SYS_PTRACE = 19  # linux/capability.h
CLONE_NEWNET = 0x40000000  # linux/sched.h
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # PROC_PID_INIT_INO, linux/proc_ns.h
INITIAL_USER_NAMESPACE = "user:[4026531837]"
PF_KTHREAD = 0x00200000  # linux/sched.h, field `flags` of /proc/PID/stat
BROKEN = (OSError, ValueError)  # what a kernel that answers strangely makes of our parsers
DENIED = (errno.EACCES, errno.EPERM)
GONE = (errno.ENOENT, errno.ESRCH)
RING = "anon_inode:[io_uring]"
SIOCGSKNS = 0x894C  # linux/sockios.h: a descriptor of a socket's network namespace
PIDFD_OPEN, PIDFD_GETFD = 434, 438  # system call numbers of every architecture but alpha (Linux 5.3, 5.6)
PIDFD_THREAD = 0o200  # linux/pidfd.h, Linux 6.9
# Protocols, as system.sockprotoname names them, whose sockets hear from no stranger.
DEAF_PROTOCOLS = (b"NETLINK", b"ALG", b"PING", b"KEY")

# linux/sock_diag.h, inet_diag.h, unix_diag.h, packet_diag.h, vm_sockets_diag.h
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST_DUMP, NLM_F_REQUEST_ACK = 0x301, 0x5
MAX_U32 = 0xFFFFFFFF
NLM_F_DUMP_INTR = 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
AF_UNIX, AF_INET, AF_INET6, AF_PACKET, AF_VSOCK = 1, 2, 10, 17, 40
ESTABLISHED, CLOSE, LISTEN = 1, 7, 10
CONNECTED = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8 | 1 << 9 | 1 << 11  # states of TCP that have an inode
INET_INODE = 68  # offset in struct inet_diag_msg
INET_DIAG_SKV6ONLY = 11
UNIX_DIAG_NAME, UNIX_DIAG_PEER, UNIX_DIAG_RQLEN, UNIX_DIAG_UID = 0, 2, 4, 7
UNIX_SHOW = 0x01 | 0x04 | 0x10 | 0x40  # name, peer, queue length, uid
PACKET_DIAG_INFO, PACKET_DIAG_UID = 0, 5
SOCK_STREAM, SOCK_DGRAM = 1, 2
UNIX_QUEUES = 0x04 | 0x10  # peer, queue length
# See `alike`: connections; and unix streams with a peer and nothing to read (sk_diag_fill of unix_diag.c).
ONE_OF_MANY = 2 << 16 | SOCK_DIAG_BY_FAMILY  # NLM_F_MULTI
CONNECTIONS = ((16 + INET_INODE) // 4, {1: ONE_OF_MANY})
IDLE_STREAM = pack(
    "=BBBBIIIHHIHHI",
    AF_UNIX,
    SOCK_STREAM,
    ESTABLISHED,
    0,
    0,
    0,
    0,
    8,
    UNIX_DIAG_PEER,
    0,
    12,
    UNIX_DIAG_RQLEN,
    0,
)
IDLE_STREAMS = (
    5,
    {1: ONE_OF_MANY, **{4 + at: unpack_from("=I", IDLE_STREAM, 4 * at)[0] for at in (0, 4, 6, 7)}},
)
SO_ACCEPTCON = 0x10000  # linux/net.h, column Flags of /proc/net/unix
# linux/rtnetlink.h, linux/if_link.h: devices on whose port the kernel itself listens, and how they say so
NETLINK_ROUTE, RTM_GETLINK, IFF_UP = 0, 18, 1
IFLA_LINKINFO, IFLA_INFO_KIND, IFLA_INFO_DATA, IFLA_LINK_NETNSID = 18, 1, 2, 37
TUNNEL_PORTS = {b"vxlan": 15, b"geneve": 5}  # IFLA_VXLAN_PORT, IFLA_GENEVE_PORT
TUNNEL_METADATA = {b"vxlan": 25, b"geneve": 6}  # IFLA_..._COLLECT_METADATA: sockets of both families

# name, IP protocol number, state that receives, name in /proc/net, names in /proc/net/protocols (IPv4, IPv6)
INET_PROTOCOLS = (
    ("tcp", 6, LISTEN, "tcp", ("TCP", "TCPv6")),
    ("udp", 17, CLOSE, "udp", ("UDP", "UDPv6")),
    ("udplite", 136, CLOSE, "udplite", ("UDP-Lite", "UDPLITEv6")),
    ("raw", 255, CLOSE, "raw", ("RAW", "RAWv6")),
    ("sctp", 132, LISTEN, "", ("SCTP", "SCTPv6")),
    ("dccp", 33, LISTEN, "", ("DCCP", "DCCPv6")),
)
PROTOCOL_ORDER = ("tcp", "udp", "udplite", "sctp", "dccp", "raw", "packet", "vsock", "unix")

SHELL_NAMES = frozenset(
    "sh bash rbash dash ash hush zsh rzsh ksh rksh mksh lksh pdksh oksh loksh posh yash csh tcsh fish rc es "
    "nu elvish ion osh ysh pwsh busybox-sh".split()
)
MULTI_CALL_NAMES = ("busybox", "toybox")
NOT_SHELLS = frozenset(("tmux", "screen", "nologin", "false", "true"))  # Debian lists tmux in /etc/shells
SHELL_FOLDERS = ("/bin", "/usr/bin", "/usr/local/bin", "/sbin", "/usr/sbin")
LOADER_FOLDERS = ("/lib", "/lib64")
LOADER_NAMES = ("ld-linux", "ld-musl", "ld64.so", "ld.so", "ld-2.")
LOADER_VALUE_OPTIONS = (
    "--library-path --preload --audit --argv0 --inhibit-rpath --glibc-hwcaps-mask --glibc-hwcaps-prepend"
).split()
# Executables on these may block for ever in stat(2) when their server is gone.
REMOTE_FILE_SYSTEMS = tuple("nfs cifs smb fuse 9p ceph afs lustre gluster gfs ocfs autofs".split())
SELF_NAMES = ("sudo", "doas", "su", "sh", "bash", "dash", "ash", "busybox", "env")

SECRET_PARTS = frozenset("pass pwd pw key keys auth authorization passin passout cookie".split())
SECRET_WORDS = (
    "password passwd passphrase secret token apikey accesskey privatekey credential requirepass masterauth"
).split()
NOT_SECRET_ENDINGS = frozenset("file path dir name type id url ttl size length policy".split())
SECRET_SCHEMES = frozenset(("bearer", "basic", "digest", "token", "apikey"))
SECRET_SHAPES = (
    "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_ glpat- xoxb- xoxp- xoxa- xoxs- xapp- AKIA ASIA AIza sk_live_ "
    "sk-ant- sk-proj- rk_live_ hvs. hvb. npm_ pypi- dop_v1_ eyJ SG. dckr_pat_"
).split()
# Programs whose short options carry a secret.
SECRET_OPTIONS = {
    "mysql": "-p",
    "mysqldump": "-p",
    "mysqladmin": "-p",
    "mariadb": "-p",
    "sshpass": "-p",
    "redis-cli": "-a",
    "curl": "-u",
    "wget": "--user",
    "ldapsearch": "-w",
    "ldapmodify": "-w",
    "smbclient": "-U",
}
WORD_BREAKS = frozenset(" \t,;&?|\"'`<>(){}[]")
HIDDEN = "***"


class Config:
    """What the controller asked for; every key of its `FLEETAUDIT` line, with the default of a bare run."""

    def __init__(self, given: "dict[str, object]") -> None:
        self.nonce = str(given.get("nonce", "bare"))
        self.sha256 = given.get("sha256")
        self.version = given.get("version")
        self.argv = given.get("argv", "redacted")  # redacted | full | none
        self.budget_seconds = _number(given.get("budget_seconds"), 30)  # CPU seconds
        self.budget_mib = int(_number(given.get("budget_mib"), 1024))  # memory
        self.max_output = int(_number(given.get("max_output"), 16 << 20))  # bytes of JSON
        self.name = given.get("name")  # the controller's name of this host


class Row:
    """One listening socket. `fields` are the JSON fields beyond those named here."""

    __slots__ = ("cookie", "family", "fields", "ifindex", "inode", "netns", "protocol")

    def __init__(
        self, protocol: str, family: str, inode: int, cookie: str, fields: "dict[str, object]"
    ) -> None:
        self.protocol = protocol
        self.family = family
        self.inode = inode
        self.cookie = cookie  # empty where the source has none
        self.fields = fields
        self.ifindex = 0
        self.netns = 0

    def link(self) -> str:
        """What readlink(2) says of a descriptor of this socket."""
        return f"socket:[{self.inode}]"

    def key(self) -> "tuple[int, object]":
        """What names this socket in a second list; the cookie then tells a reused inode number."""
        return (self.netns, self.inode or self.cookie)


class Coverage:
    """What was seen and what was not."""

    def __init__(self) -> None:
        self.seen: set[str] = set()
        self.denied: set[str] = set()
        self.denied_fds = 0
        self.vanished: set[str] = set()
        self.vanished_sockets = 0
        self.gaps: list[dict[str, object]] = []
        self.reduced: list[dict[str, object]] = []  # protocols of which the kernel told less than it can
        self.noted = 0  # how often a gap was met, the same one again included
        self.met = 0  # gaps met, each time anew

    def gap(self, code: str, detail: str, netns: int = 0, protocol: str = "") -> None:
        """Note something that could not be seen; `netns` and `protocol` narrow what may be hidden."""
        entry: dict[str, object] = {"code": code, "detail": detail}
        if netns:
            entry["netns"] = netns
        if protocol:
            entry["protocol"] = protocol
        self.met += 1
        self.noted += 1
        if entry not in self.gaps:
            self.gaps.append(entry)

    def missed(self, pid: str, error: OSError) -> None:
        """Count a process that could not be looked into: it is gone, or we may not."""
        (self.vanished if error.errno in GONE else self.denied).add(pid)


# ---------------------------------------------------------------- parsers (bytes to values, no I/O)


def _raw(name: str) -> bytes:
    """The bytes behind a name that Python decoded (os.fsencode, without importing os)."""
    return name.encode(sys.getfilesystemencoding(), "surrogateescape")


def _name(raw: bytes) -> str:
    """A file name for Python's own calls (os.fsdecode)."""
    return raw.decode(sys.getfilesystemencoding(), "surrogateescape")


def _number(value: object, default: int) -> float:
    return value if isinstance(value, (int, float)) and value > 0 else default


def text(raw: bytes, limit: int = TEXT_LIMIT) -> str:
    r"""Bytes as text: controls and what is not UTF-8 as literal \xNN, cut at `limit` bytes with a note."""
    note = f" [cut, {len(raw)} bytes in all]" if len(raw) > limit else ""
    decoded = raw[:limit].decode("utf-8", "surrogateescape")
    if not decoded.isprintable():  # true of surrogates and controls, and of some harmless characters
        decoded = "".join([char if _is_plain(char) else _escaped(char) for char in decoded])
    return decoded + note


def _is_plain(char: str) -> bool:
    code = ord(char)
    return 0x20 <= code < 0x7F or (code >= 0xA0 and not 0xDC80 <= code <= 0xDCFF)


def _escaped(char: str) -> str:
    return "".join([f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape")])


def unpack(form: str, data: bytes, offset: int = 0) -> "tuple[int, ...]":
    """The numbers at an offset. Raises ValueError when the data is too short."""
    try:
        return unpack_from(form, data, offset)
    except StructError as error:
        raise ValueError(f"the kernel's answer is too short: {error}") from None


def split_messages(data: bytes) -> "list[tuple[int, int, bytes]]":
    """(type, flags, payload) of each netlink message in a datagram. Raises ValueError if a length lies."""
    found = []
    offset = 0
    while offset < len(data):
        if len(data) - offset < 16:
            raise ValueError("netlink message shorter than its header")
        length, kind, flags = unpack("=IHH", data, offset)
        if length < 16 or offset + length > len(data):
            raise ValueError("netlink message with a wrong length")
        found.append((kind, flags, data[offset + 16 : offset + length]))
        offset += (length + 3) & ~3
    return found


def alike(data: bytes, many: "tuple[int, dict[int, int]]") -> "list[int] | None":
    """The inodes in a datagram of messages of one length with certain words at certain places; else None.

    `many`: the place of the inode and the words by place, counted in words of 32 bits. No loop in Python:
    there may be 100,000 of them.
    """
    place, fixed = many
    length = unpack("=I", data)[0]
    if length <= 4 * max(place, *fixed) or length % 4 or len(data) % length:
        return None
    words, step = memoryview(data).cast("I"), length // 4
    if set(words[::step]) != {length}:
        return None
    for where, word in fixed.items():
        if set(words[where::step]) != {word}:
            return None
    return words[place::step].tolist()


def attributes(data: bytes) -> "dict[int, bytes]":
    """Netlink attributes by type. Raises ValueError if a length lies."""
    found = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = unpack("=HH", data, offset)
        if length < 4 or offset + length > len(data):
            raise ValueError("netlink attribute with a wrong length")
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def _u32(data: "bytes | None") -> "int | None":
    return int(unpack("=I", data)[0]) if data is not None and len(data) >= 4 else None


def _known(**fields: object) -> "dict[str, object]":
    """The fields that are known; None stands for unknown here."""
    return {name: value for name, value in fields.items() if value is not None}


def _label(state: int) -> str:
    return "LISTEN" if state == LISTEN else "UNCONN"


def inet_fields(protocol: str, family: str, address: str, port: int, state: int) -> "dict[str, object]":
    """The fields that name an internet socket. The "port" of a raw socket is its IP protocol."""
    fields: dict[str, object] = {"state": _label(state), "address": address, "port": port, "path": None}
    if protocol == "raw":
        fields["port"] = None
        fields["ip_protocol"] = port
    if family == "inet":
        fields["v6only"] = None
    if state != LISTEN:
        fields["backlog"] = None
    return fields


def inet_row(protocol: str, data: bytes) -> "Row | None":
    """A row from struct inet_diag_msg; None for a socket with a peer, which hears from nobody else."""
    family, state, _, _, port, remote = unpack("!BBBBHH", data)
    low, high, _, _, backlog, uid, inode = unpack("=IIIIIII", data, 44)
    extra = attributes(data[72:])
    if remote:
        return None
    name = "inet" if family == AF_INET else "inet6"
    address = _socket.inet_ntop(family, data[8:12] if family == AF_INET else data[8:24])
    fields = inet_fields(protocol, name, address, port, state)
    fields["uid"] = uid
    if state == LISTEN:
        fields["backlog"] = backlog
    if name == "inet6" and INET_DIAG_SKV6ONLY in extra:
        fields["v6only"] = extra[INET_DIAG_SKV6ONLY] != b"\0"
    row = Row(protocol, name, inode, str(low | high << 32), fields)
    row.ifindex = unpack("=I", data, 40)[0]
    return row


def unix_path(raw: bytes) -> str:
    """A unix address as text: an abstract one begins with @ in place of its NUL."""
    return text(b"@" + raw[1:] if raw[:1] == b"\0" else raw.rstrip(b"\0"))


def unix_row(data: bytes) -> "Row | None":
    """A row from struct unix_diag_msg; None for a socket that does not receive from strangers.

    The peer decides, not the state: connect(2) to a datagram server makes the *server* ESTABLISHED
    (Linux 5.15 and later, unix_dgram_connect).
    """
    _, kind, state, inode, low, high = unpack("=BBBxIII", data)
    extra = attributes(data[16:])
    name = extra.get(UNIX_DIAG_NAME)
    receives = kind == SOCK_DGRAM and name is not None and not _u32(extra.get(UNIX_DIAG_PEER))
    if state != LISTEN and not receives:
        return None
    fields: dict[str, object] = {
        "state": _label(state),
        "address": None,
        "port": None,
        "v6only": None,
        "device": None,
    }
    fields["path"] = unix_path(name) if name is not None else None
    queue = extra.get(UNIX_DIAG_RQLEN, b"")
    if state != LISTEN:
        fields["backlog"] = None
    elif len(queue) >= 8:
        fields["backlog"] = _u32(queue[4:])
    fields.update(_known(uid=_u32(extra.get(UNIX_DIAG_UID))))
    return Row("unix", "unix", inode, str(low | high << 32), fields)


def may_queue(data: bytes) -> "tuple[bool, bool]":
    """(whether descriptors may be in flight to this socket, whether anything is), from struct unix_diag_msg.

    A stream without unread bytes holds none. A datagram may be empty and carry descriptors all the same.
    """
    _, kind, _, _, _, _ = unpack("=BBBxIII", data)
    waiting = bool(_u32(attributes(data[16:]).get(UNIX_DIAG_RQLEN)))
    return waiting or kind != SOCK_STREAM, waiting


def tunnel_ports(data: bytes) -> "dict[int, bool]":
    """Ports that a network device makes the kernel listen on, from an RTM_NEWLINK message.

    The value says whether the device has a socket of each family. A device that is down has none.
    """
    flags = unpack("=I", data, 8)[0]
    outer = attributes(data[16:])
    link = attributes(outer.get(IFLA_LINKINFO, b""))
    kind = link.get(IFLA_INFO_KIND, b"").rstrip(b"\0")
    # A device that was moved here has its socket where it was made, and tells that by this attribute.
    if kind not in TUNNEL_PORTS or not flags & IFF_UP or IFLA_LINK_NETNSID in outer:
        return {}
    values = attributes(link.get(IFLA_INFO_DATA, b""))
    port = values.get(TUNNEL_PORTS[kind], b"")
    both = values.get(TUNNEL_METADATA[kind])
    return {unpack("!H", port)[0]: both is not None and both != b"\0"} if port else {}


def queued_descriptors(data: bytes) -> "int | None":
    """Descriptors in flight to a unix socket, from its fdinfo; None if the kernel (before 5.5) is silent."""
    for line in data.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"scm_fds" and value.strip().isdigit():
            return int(value)
    return None


def _peerless(protocol: str, inode: int, cookie: str, state: int, port: "int | None") -> Row:
    fields: dict[str, object] = {
        "state": _label(state),
        "address": None,
        "port": port,
        "path": None,
        "v6only": None,
    }
    return Row(protocol, protocol, inode, cookie, fields)


def packet_row(data: bytes) -> Row:
    """A row from struct packet_diag_msg."""
    _, _, _, inode, low, high = unpack("=BBHIII", data)
    extra = attributes(data[16:])
    row = _peerless("packet", inode, str(low | high << 32), CLOSE, None)
    row.fields["backlog"] = None
    row.fields.update(_known(uid=_u32(extra.get(PACKET_DIAG_UID))))
    row.ifindex = _u32(extra.get(PACKET_DIAG_INFO)) or 0
    return row


def vsock_row(data: bytes) -> Row:
    """A row from struct vsock_diag_msg. The address is the context id, any being 4294967295."""
    state, cid, port = unpack("=BxII", data, 2)
    inode, low, high = unpack("=III", data, 20)
    row = _peerless("vsock", inode, str(low | high << 32), state, None)
    row.fields.update(address=str(cid), vsock_port=port, device=None)
    return row


def proc_inet_rows(protocol: str, family: str, state: int, data: bytes) -> "list[Row]":
    """Rows of /proc/net/{tcp,udp,udplite,raw}{,6}. Cookie, backlog, v6only and device are not in it."""
    rows = []
    for line in data.split(b"\n")[1:]:
        part = line.split()
        if len(part) < 10 or int(part[3], 16) != state or part[2].rpartition(b":")[2].strip(b"0"):
            continue
        number, _, port = part[1].partition(b":")
        words = [pack("=I", int(number[i : i + 8], 16)) for i in range(0, len(number), 8)]
        address = _socket.inet_ntop(AF_INET if family == "inet" else AF_INET6, b"".join(words))
        fields = inet_fields(protocol, family, address, int(port, 16), state)
        fields["uid"] = int(part[7])
        rows.append(Row(protocol, family, int(part[9]), "", fields))
    return rows


def proc_unix_rows(data: bytes) -> "list[Row]":
    """Rows of /proc/net/unix. Peers are not in it: a datagram socket with an address is taken to receive."""
    rows = []
    for line in data.split(b"\n")[1:]:
        part = line.split(None, 7)
        if len(part) < 7 or not part[6].isdigit():
            continue  # the rest of a name with a newline in it
        listens = int(part[3], 16) & SO_ACCEPTCON
        if not listens and not (int(part[4], 16) == SOCK_DGRAM and len(part) > 7):
            continue
        row = _peerless("unix", int(part[6]), "", LISTEN if listens else CLOSE, None)
        row.fields["path"] = text(part[7]) if len(part) > 7 else None
        row.fields["device"] = None
        rows.append(row)
    return rows


def proc_packet_rows(data: bytes) -> "list[Row]":
    """Rows of /proc/net/packet."""
    rows = []
    for line in data.split(b"\n")[1:]:
        part = line.split()
        if len(part) >= 9:
            row = _peerless("packet", int(part[8]), "", CLOSE, None)
            row.fields["uid"] = int(part[7])
            row.ifindex = int(part[4])
            rows.append(row)
    return rows


def parse_stat(data: bytes) -> "tuple[bytes, list[bytes]]":
    """(comm, fields from `state` on) of /proc/PID/stat. comm may hold anything, so the *last* ) ends it."""
    end = data.rindex(b")")
    return data[data.index(b"(") + 1 : end], data[end + 2 :].split()


def parse_status(data: bytes, names: "tuple[bytes, ...]") -> "dict[bytes, list[bytes]]":
    """The words of these fields of /proc/PID/status. `Name` comes first and escapes its newlines."""
    found = {}
    for name in names:
        _, colon, rest = data.partition(b"\n" + name + b":")
        if colon:
            found[name] = rest.partition(b"\n")[0].split()
    return found


def natural(word: bytes) -> int:
    """A number as the kernel writes it. Raises ValueError for what cannot be one."""
    if not word.isdigit() or len(word) > 18:
        raise ValueError("no number of the kernel's")
    return int(word)


def terminal(number: int) -> "str | None":
    """The name of a controlling terminal (tty_nr of /proc/PID/stat, Documentation/admin-guide/devices)."""
    major, minor = number >> 8 & 0xFFF, number & 0xFF | number >> 12 & 0xFFF00
    if 136 <= major <= 143:
        return f"pts/{minor + (major - 136) * 256}"
    if major == 4:
        return f"tty{minor}" if minor < 64 else f"ttyS{minor - 64}"
    return f"{major}:{minor}" if number else None


def parse_mountinfo(data: bytes) -> "list[tuple[bytes, bytes, bytes, bytes, bytes]]":
    """(number, root, mount point, file system type, its options) of each line of /proc/PID/mountinfo."""
    mounts = []
    for line in data.split(b"\n"):
        left, dash, right = line.partition(b" - ")
        fields, rest = left.split(b" "), right.split(b" ")
        if dash and len(fields) > 5 and len(rest) > 2:
            mounts.append(
                (fields[0], _unescape_octal(fields[3]), _unescape_octal(fields[4]), rest[0], rest[2])
            )
    return mounts


def _unescape_octal(name: bytes) -> bytes:
    r"""The kernel writes space, tab, newline and backslash as \040 and so on (seq_path)."""
    for code, char in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        name = name.replace(code, char)
    return name


def parse_ids(data: bytes) -> "dict[int, str]":
    """Names by number of /etc/passwd or /etc/group; the first entry of a number counts."""
    names: dict[int, str] = {}
    for line in data.split(b"\n"):
        part = line.split(b":")
        if len(part) > 2 and part[2].isdigit():
            names.setdefault(int(part[2]), text(part[0]))
    return names


def only_files(switch: bytes, database: bytes) -> bool:
    """Whether nsswitch.conf(5) has names in the local files alone: then a number without one has none."""
    for line in switch.split(b"\n"):
        name, _, services = line.partition(b"#")[0].partition(b":")
        if name.strip() == database:
            return set(services.split()) <= {b"files", b"compat"}
    return True


def parse_release(data: bytes) -> "dict[str, str]":
    """The assignments of os-release(5), unquoted."""
    pairs = [line.strip().partition(b"=") for line in data.split(b"\n")]
    return {text(name): text(value.strip(b"\"'")) for name, equals, value in pairs if equals}


def parse_protocols(data: bytes) -> "dict[str, int]":
    """Sockets in use by protocol name, of /proc/net/protocols: what the kernel has loaded at all."""
    found = {}
    for line in data.split(b"\n")[1:]:
        part = line.split()
        if len(part) > 2 and part[2].lstrip(b"-").isdigit():
            found[text(part[0])] = int(part[2])
    return found


def parse_cgroup(data: bytes) -> "str | None":
    """The path in systemd's hierarchy of /proc/PID/cgroup (v1 and hybrid), else in the unified one.

    Where neither tells, the longest path of a controller (v1 without systemd).
    """
    paths = {}
    for line in data.split(b"\n"):
        part = line.split(b":", 2)
        if len(part) == 3:
            paths[part[1]] = part[2]
    raw = paths.get(b"name=systemd", paths.get(b""))
    if raw in (None, b"/") and b"name=systemd" not in paths:
        raw = max(paths.values(), key=len, default=None)
    return None if raw is None else text(raw)


def hides_processes(options: bytes) -> "tuple[bool, int | None]":
    """(whether hidepid is set, the group it spares) from the mount options of a /proc."""
    hidden, group = False, None
    for option in options.split(b","):
        name, _, value = option.partition(b"=")
        if name == b"hidepid":
            hidden = value not in (b"0", b"off")
        elif name == b"gid" and value.isdigit():
            group = int(value)
    return hidden, group


def ring_files(data: bytes) -> "tuple[list[str], bool]":
    """(sockets registered with an io_uring, whether the list is whole) from the fdinfo of the ring.

    `UserFiles: N` is followed by N lines `index: name` (io_uring/fdinfo.c); older kernels leave names out.
    """
    lines = data.decode("ascii", "replace").split("\n")
    expected, names = -1, []  # an empty place has no line, or the name <none>
    for line in lines:
        name, _, value = line.partition(":")
        if name == "UserFiles":
            expected = int(value)
        elif expected >= 0 and name.strip().isdigit() and line[:1] == " ":
            names.append(value.strip())
        elif expected >= 0:
            break
    sockets = [name for name in names if name.startswith("socket:[")]
    # Older kernels print a socket's protocol ("TCP") in place of its path, which tells nothing.
    told = [name for name in names if name.startswith(("/", "<none>")) or ":" in name]
    # Requests under way (PollList), such as accept(2) for ever, hold sockets that are told nowhere.
    pending = any(line.lstrip().startswith("op=") for line in lines)
    return sockets, not pending and len(told) == len(names) and (bool(names) or expected == 0)


def listen_fds(environ: bytes, pids: "list[bytes]") -> bool:
    """Whether the environment says that sockets were passed to this process (sd_listen_fds(3))."""
    if b"LISTEN_FDS=" not in environ:
        return False  # as of nearly every process
    pairs = [entry.partition(b"=") for entry in environ.split(b"\0")]
    values = {name: value for name, _, value in pairs if name in (b"LISTEN_PID", b"LISTEN_FDS")}
    count = values.get(b"LISTEN_FDS", b"")
    return values.get(b"LISTEN_PID") in pids and count.isdigit() and int(count) > 0


def split_argv(data: bytes) -> "list[bytes]":
    """The arguments in /proc/PID/cmdline. A process that wrote its title there leaves NULs at the end."""
    line = data.rstrip(b"\0")
    return line.split(b"\0") if line else []


# ---------------------------------------------------------------- secrets in command lines (pure)


def redact(args: "list[str]") -> "list[str]":
    """The arguments with what looks like a secret replaced by ***."""
    program = args[0].rpartition("/")[2] if args else ""
    short = SECRET_OPTIONS.get(program)
    shown = []
    hide = False
    for place, arg in enumerate(args):
        if hide and not arg.startswith("--"):
            shown.append(HIDDEN)
            hide = False
            continue
        hide = place > 0 and (
            arg == short or (arg.startswith("-") and "=" not in arg and is_secret_name(arg))
        )
        if (
            short
            and place > 0
            and arg.startswith(short)
            and len(arg) > len(short)
            and not short.startswith("--")
        ):
            shown.append(short + HIDDEN)
            hide = False
        else:
            shown.append(redact_words(redact_urls(arg)))
    return shown


def is_secret_name(name: str) -> bool:
    """Whether an option or variable of this name holds a secret."""
    name = name.lstrip("-").lower()
    parts = name.replace("_", "-").replace(".", "-").replace(":", "-").replace("/", "-").split("-")
    if not name or parts[0] == "no" or parts[-1] in NOT_SECRET_ENDINGS:
        return False
    squashed = "".join(parts)
    return not SECRET_PARTS.isdisjoint(parts) or any(word in squashed for word in SECRET_WORDS)


def redact_urls(arg: str) -> str:
    """The argument with the user information of every URL replaced."""
    done, rest = "", arg
    while "://" in rest:
        scheme, _, rest = rest.partition("://")
        end = min(
            [place for place in map(rest.find, ("/", " ", "?", "#", '"', "'")) if place >= 0] or [len(rest)]
        )
        user, at, server = rest[:end].rpartition("@")
        done += scheme + "://" + (HIDDEN + "@" if at and user else "") + server
        rest = rest[end:]
    return done + rest


def redact_words(arg: str) -> str:
    """The argument with secrets replaced: `name=secret`, `--name secret`, `Authorization: x secret`."""
    done = []
    hide = False
    named = False  # the word before was a secret's name that only a separator turns into one
    for word in _words(arg):
        bare = word.strip(":=")
        if word[0] in WORD_BREAKS:
            done.append(word)
        elif not bare:  # `"password": "x"`, `password = x`
            hide = hide or named
            done.append(word)
        elif hide:
            hide = bare.lower() in SECRET_SCHEMES
            done.append(word if hide else HIDDEN)
        else:
            shown, hide = _redact_word(word)
            named = is_secret_name(bare)
            done.append(shown)
    return "".join(done)


def _words(arg: str) -> "list[str]":
    """The argument cut into words and single separating characters; joined they are the argument."""
    words = []
    start = 0
    for place, char in enumerate(arg):
        if char in WORD_BREAKS:
            words += [arg[start:place], char]
            start = place + 1
    return [word for word in [*words, arg[start:]] if word]


def _redact_word(word: str) -> "tuple[str, bool]":
    """(the word as shown, whether the next word is a secret)."""
    if word.lower() == "bearer":
        return word, True
    for separator in ("=", ":"):
        name, found, value = word.partition(separator)
        if found and is_secret_name(name):
            return name + found + (HIDDEN if value else ""), not value
    if word.startswith("-") and "=" not in word and is_secret_name(word):
        return word, True
    name, equals, value = word.partition("=")
    secret = value if equals else word
    if len(secret) >= 16 and any(secret.startswith(shape) for shape in SECRET_SHAPES):
        return (name + equals if equals else "") + HIDDEN, False
    return word, False


# ---------------------------------------------------------------- readers: files and the kernel


def read(path: "str | bytes", limit: int = FILE_LIMIT, record: bool = False) -> bytes:
    """Up to `limit` bytes of a file. Raises OSError. Never waits for a pipe's other end.

    Of a `record`, which the kernel writes in one piece (single_open), a short part is the last.
    """
    handle = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    try:
        parts = []
        size = 0
        while size < limit:
            wanted = min(65536, limit - size)
            part = posix.read(handle, wanted)
            parts.append(part)
            size += len(part)
            if len(part) < (wanted if record else 1):
                break
        return b"".join(parts)
    finally:
        posix.close(handle)


def read_or(path: "str | bytes", limit: int = FILE_LIMIT, record: bool = False) -> bytes:
    """Like `read`; nothing of a file that is not there or not ours to read."""
    try:
        return read(path, limit, record)
    except OSError:
        return b""


def record(path: str) -> bytes:
    """One of the small files of a process, see `read`. Raises OSError."""
    return read(path, FILE_LIMIT, True)


def list_pids(proc: str) -> "list[str]":
    """Every process listed now."""
    return [name for name in posix.listdir(proc) if name.isdigit()]


def link_number(link: str) -> int:
    """The inode number in a link like net:[4026531840]; 0 if there is none."""
    number = link[link.find("[") + 1 : -1]
    return int(number) if number.isdigit() else 0


class Kernel:
    """A netlink socket of the namespace that the agent is in: one question after another."""

    def __init__(self, protocol: int = NETLINK_SOCK_DIAG) -> None:
        self.protocol = protocol
        self.netlink = self._open()
        self.alike: list[int] = []  # inodes of all that was `alike`
        self.pieces = 0  # in how many datagrams the last answer came

    def _open(self) -> "_socket.socket":
        netlink = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW, self.protocol)
        # struct timeval. Not settimeout(), which costs a poll(2) for each datagram.
        netlink.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVTIMEO, pack("ll", 10, 0))
        netlink.setsockopt(_socket.SOL_SOCKET, _socket.SO_RCVBUF, 1 << 20)
        return netlink

    def close(self) -> None:
        """Let the socket go."""
        self.netlink.close()

    def ask(
        self,
        request: bytes,
        many: "tuple[int, dict[int, int]] | None" = None,
        kind: int = SOCK_DIAG_BY_FAMILY,
        flags: int = NLM_F_REQUEST_DUMP,
    ) -> "tuple[list[bytes], bool]":
        """(answers, whether the dump was interrupted). Of those that are `alike` only the inodes are kept.

        Raises OSError with the kernel's errno, and ValueError when the answer makes no sense.
        """
        try:
            self.netlink.send(pack("=IHHII", 16 + len(request), kind, flags, 1, 0) + request)
            return self._answers(many)
        except BROKEN:
            self.netlink.close()  # with what is left of this answer
            self.netlink = self._open()
            raise

    def _answers(self, many: "tuple[int, dict[int, int]] | None") -> "tuple[list[bytes], bool]":
        answers: list[bytes] = []
        interrupted, self.pieces = False, 0
        while True:
            data, sender = self.netlink.recvfrom(1 << 16)
            if sender[0]:
                continue  # a process of that namespace, not the kernel
            inodes = alike(data, many) if many else None
            if inodes is not None:
                self.alike += inodes
                continue
            for answer, flags, payload in split_messages(data):
                interrupted = interrupted or bool(flags & NLM_F_DUMP_INTR)
                if answer in (NLMSG_ERROR, NLMSG_DONE):
                    _raise_errno(payload)
                    return answers, interrupted
                answers.append(payload)
            self.pieces += 1


def inet_request(family: int, number: int, states: int) -> bytes:
    """struct inet_diag_req_v2 for every socket in these states."""
    return pack("=BBBBI48x", family, number, 0, 0, states)


def unix_request(states: int, show: int, inode: int = 0) -> bytes:
    """struct unix_diag_req; the cookie asks for none in particular."""
    return pack("=BBHIIIII", AF_UNIX, 0, 0, states, inode, show, MAX_U32, MAX_U32)


def _raise_errno(payload: bytes) -> None:
    """The kernel's errno stands negated at the head of NLMSG_ERROR and NLMSG_DONE."""
    code = -unpack("=i", payload)[0] if len(payload) >= 4 else errno.EPROTO
    if code:
        raise OSError(code, posix.strerror(code))


class Dump:
    """Every listening socket of the namespace that the agent is in right now."""

    def __init__(self, netns: int, coverage: Coverage) -> None:
        self.netns = netns
        self.coverage = coverage
        self.loaded = parse_protocols(read_or("/proc/thread-self/net/protocols"))
        self.kernel = Kernel()
        self.listed = self.kernel.alike  # every socket that the kernel named, listening or not
        self.may_queue: set[int] = set()  # unix sockets that may have descriptors in flight to them
        self.waiting: set[int] = set()  # those of them that have something in their queue
        self.vsock_unseen = False

    def __enter__(self) -> "Dump":
        return self

    def __exit__(self, *_: object) -> None:
        self.kernel.close()

    def run(self) -> "list[Row]":
        """All protocols. Where the kernel does not answer, /proc/net; where that is missing too, a gap."""
        rows: list[Row] = []
        for name, number, state, proc_name, markers in INET_PROTOCOLS:
            for family, suffix, marker in ((AF_INET, "", markers[0]), (AF_INET6, "6", markers[1])):
                if not self._is_absent(marker):
                    # Datagram sockets with a peer too: few, and `listed` then.
                    states = 1 << state | (1 << ESTABLISHED if state == CLOSE else 0)
                    request = inet_request(family, number, states)
                    rows += self._inet(name, state, request, proc_name and proc_name + suffix, marker)
        rows += self.unix() + self._packet() + self._vsock()
        names: dict[int, str] = {}
        rows = [
            *{(row.protocol, row.inode, row.cookie): row for row in rows}.values()
        ]  # listed twice, `_ask`
        for row in rows:
            row.netns = self.netns
            self.listed.append(row.inode)
            if row.cookie or row.protocol == "packet":
                row.fields.setdefault("device", device_name(row.ifindex, names))
        return rows

    def _inet(self, name: str, state: int, request: bytes, proc_name: str, marker: str) -> "list[Row]":
        try:
            answers = self._ask(name, request)
            self.listed += [unpack("=I", data, INET_INODE)[0] for data in answers]
            return [row for row in [inet_row(name, data) for data in answers] if row is not None]
        except BROKEN:
            pass
        try:
            if proc_name:
                family = "inet6" if proc_name.endswith("6") else "inet"
                return self._poorer(name, proc_inet_rows(name, family, state, read_table(proc_name)))
        except BROKEN:
            pass
        self._lost(name, marker)
        return []

    def list_connections(self, least: int = STRANGERS_FEW) -> None:
        """Name TCP's sockets with a peer too. Best effort: what stays unnamed is asked one by one."""
        for family, marker in ((AF_INET, "TCP"), (AF_INET6, "TCPv6")):
            if self.loaded.get(marker, least) < least:
                continue
            request = inet_request(family, 6, CONNECTED)
            try:
                rest, _ = self.kernel.ask(request, CONNECTIONS)
                self.listed += [unpack("=I", data, INET_INODE)[0] for data in rest]
            except BROKEN:
                continue

    def unix(self) -> "list[Row]":
        """The unix sockets that listen or receive."""
        try:
            answers = self._ask("unix", unix_request(1 << LISTEN | 1 << CLOSE, UNIX_SHOW))
            answers += self._unix_connected()
            for data in answers:
                inode = unpack("=I", data, 4)[0]
                self.listed.append(inode)
                self._note_queue(inode, data)
            return [row for row in map(unix_row, answers) if row is not None]
        except BROKEN:
            pass
        try:
            rows = proc_unix_rows(read_table("unix"))
        except BROKEN:
            self._lost("unix", "UNIX")
            return []
        detail = "without unix_diag nobody can tell where descriptors are in flight"
        self.coverage.gap("hidden_holders", detail)
        return self._poorer("unix", rows)

    def _unix_connected(self) -> "list[bytes]":
        """Messages of connected sockets that may receive from others, or have something to be read.

        Most are streams with nothing to read, and asked for less they are all `alike`.
        """
        odd = self._ask("unix", unix_request(1 << ESTABLISHED, UNIX_QUEUES), IDLE_STREAMS)
        return [data if UNIX_DIAG_PEER in attributes(data[16:]) else self._named(data) for data in odd]

    def _named(self, data: bytes) -> bytes:
        """The same socket with its name, which a datagram server is known by; see `unix_row`."""
        request = unix_request(MAX_U32, UNIX_SHOW, unpack("=I", data, 4)[0])
        try:
            return [*self.kernel.ask(request, flags=NLM_F_REQUEST_ACK)[0], data][0]
        except BROKEN:
            return data  # gone

    def _note_queue(self, inode: int, data: bytes) -> None:
        possible, waiting = may_queue(data)
        if possible:
            self.may_queue.add(inode)
        if waiting:
            self.waiting.add(inode)

    def _packet(self) -> "list[Row]":
        if self._is_absent("PACKET"):
            return []
        try:
            request = pack(
                "=BBHIIII", AF_PACKET, 0, 0, 0, 1, 0, 0
            )  # struct packet_diag_req, PACKET_SHOW_INFO
            return [packet_row(data) for data in self._ask("packet", request)]
        except BROKEN:
            pass
        try:
            rows = proc_packet_rows(read_table("packet"))
        except BROKEN:
            self._lost("packet", "PACKET")
            return []
        return self._poorer("packet", rows)

    def _vsock(self) -> "list[Row]":
        if self._is_absent("AF_VSOCK"):
            return []
        try:
            request = pack("=BBHIIIII", AF_VSOCK, 0, 0, 1 << LISTEN, 0, 0, 0, 0)  # struct vsock_diag_req
            return [vsock_row(data) for data in self._ask("vsock", request)]
        except BROKEN:
            # Without its handler vsock sockets are listed nowhere: `Strangers` looks whether any is held.
            self.vsock_unseen = bool(self.loaded)
            if not self.loaded:
                self._lost("vsock", "AF_VSOCK")
        return []

    def _is_absent(self, marker: str) -> bool:
        """Whether the kernel has not loaded this protocol. Asking all the same might load it."""
        return bool(self.loaded) and marker not in self.loaded

    def _ask(
        self, name: str, request: bytes, many: "tuple[int, dict[int, int]] | None" = None
    ) -> "list[bytes]":
        answers: list[bytes] = []
        for _ in range(DUMP_ATTEMPTS):
            answers, interrupted = self.kernel.ask(request, many)
            if self.kernel.pieces > 1 and not many:
                # inet_diag goes on at the same place of a list that may have become shorter, and does not say
                # so: what it jumps over is hardly the same twice.
                again, broken = self.kernel.ask(request)
                answers, interrupted = answers + again, interrupted or broken
            if not interrupted:
                return answers
        detail = f"the list of {name} sockets kept changing while the kernel wrote it"
        self.coverage.gap("dump_interrupted", detail, self.netns, name)
        return answers

    def _poorer(self, name: str, rows: "list[Row]") -> "list[Row]":
        if rows:
            lost = ["cookie", "device", "backlog", "v6only", "peer"][: 5 if name == "unix" else 4]
            self.coverage.reduced.append({"protocol": name, "netns": self.netns, "lost": lost})
        return rows

    def _lost(self, name: str, marker: str) -> None:
        # A counter at 0 proves that there is nothing to list (sock_prot_inuse_get); unix has two counters.
        if name in ("tcp", "udp", "unix") or not self.loaded or self.loaded.get(marker):
            detail = f"the kernel lists {name} sockets neither over netlink nor in /proc/net"
            self.coverage.gap("protocol_not_dumped", detail, self.netns, name)


def read_table(name: str) -> bytes:
    """A table of /proc/net of the namespace that the agent is in."""
    return read("/proc/thread-self/net/" + name, 1 << 28)


def device_name(index: int, names: "dict[int, str]") -> "str | None":
    """The name of an interface of the current namespace; None for index 0, which is any.

    Loopback always has index 1 (LOOPBACK_IFINDEX): any other that is called lo is told apart.
    """
    if index and index not in names:
        try:
            names[index] = text(_raw(_socket.if_indextoname(index)))
            if index != 1 and names[index] == "lo":
                names[index] += f"#{index}"
        except OSError:
            names[index] = f"#{index}"
    return names.get(index)


# ---------------------------------------------------------------- readers: network namespaces


class Namespace:
    """A network namespace and the paths by which it can be entered."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.doors: list[str] = []
        self.name: str | None = None
        self.inhabited = False  # a process that we see lives in it
        self.mounted = False  # a mount keeps it alive
        self.dumped = False
        self.refused = ""
        self.ephemeral: list[int] | None = None

    def add_door(self, path: str) -> None:
        """Remember a way in. A few are enough: one that is gone is replaced by looking again."""
        if len(self.doors) < 16:
            self.doors.append(path)


class Namespaces:
    """All network namespaces of the host, and what listens in each."""

    def __init__(self, proc: str, coverage: Coverage) -> None:
        self.proc = proc
        self.coverage = coverage
        self.known: dict[int, Namespace] = {}
        self.mounts = our_mounts()
        self.listed: list[int] = []
        self.may_queue: set[int] = set()
        self.waiting: set[int] = set()
        self.vsock_unseen = False
        self.home = link_number(posix.readlink(proc + "/self/ns/net"))
        self.home_door = posix.open(proc + "/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self._get(self.home).inhabited = True
        for ours in self.mounts.values():
            self._find_mounts("self", ours)

    def _get(self, number: int) -> Namespace:
        return self.known.setdefault(number, Namespace(number))

    def find(self, pids: "list[str]") -> None:
        """Learn the namespaces of these processes, and those bind-mounted where they can see them."""
        for pid in pids:
            try:
                space = self._learn(f"{self.proc}/{pid}/")
            except OSError as error:
                if error.errno in DENIED:
                    self.coverage.denied.add(pid)
                continue  # gone, as the walk will see
            if space not in self.mounts:
                self.mounts[space] = Mounts(f"{self.proc}/{pid}/")
                self._find_mounts(pid, self.mounts[space])

    def _learn(self, base: str) -> str:
        """Note a process's network namespace; its mount namespace. A process that ended has neither."""
        try:
            link = posix.readlink(base + "ns/net")
        except OSError as error:
            if error.errno in DENIED:
                raise
            base = live_thread(base)
            link = posix.readlink(base + "ns/net")
        space = self._get(link_number(link))
        space.inhabited = True
        space.add_door(base + "ns/net")
        return mount_space(base)

    def _find_mounts(self, pid: str, mounts: "Mounts") -> None:
        """nsfs mounts keep a namespace alive without a process; `ip netns` makes them in /run/netns."""
        for number, point in mounts.namespaces:
            space = self._get(number)
            space.mounted = True
            if not point.startswith(mounts.remote):  # the way there would lead through what may hang
                space.add_door(f"{self.proc}/{pid}/root{_name(point)}")
            folder, _, name = point.rpartition(b"/")
            if folder in (b"/run/netns", b"/var/run/netns"):
                space.name = text(name)

    def add_links(self, links: "dict[str, str]") -> None:
        """Namespaces that a thread is in, or that a process holds by an open descriptor."""
        for link, path in links.items():
            self._get(link_number(link)).add_door(path)

    def dump_new(self) -> "list[Row]":
        """What listens in every namespace not asked yet."""
        rows: list[Row] = []
        for space in [space for space in self.known.values() if not space.dumped]:
            space.dumped = True
            rows += self.dump(space)
        return rows

    def dump(self, space: Namespace) -> "list[Row]":
        """What listens in one namespace; a gap if it exists and cannot be entered."""
        if not self._step_into(space):
            return []
        try:
            return self._dump_here(space)
        finally:
            self._step_back(space)

    def _step_into(self, space: Namespace) -> bool:
        return space.number == self.home or self._enter(space)

    def _step_back(self, space: Namespace) -> None:
        if space.number != self.home:
            set_namespace(self.home_door)

    def _dump_here(self, space: Namespace) -> "list[Row]":
        first_last = read_or("/proc/sys/net/ipv4/ip_local_port_range").split()
        if len(first_last) == 2:
            space.ephemeral = [int(number) for number in first_last]
        with Dump(space.number, self.coverage) as dump:
            rows = dump.run()
            if not can_ask_sockets() or sockets_in_use() - len(dump.listed) > STRANGERS_FEW:
                dump.list_connections()
        self.listed += dump.listed
        self.may_queue |= dump.may_queue
        self.waiting |= dump.waiting
        self.vsock_unseen = self.vsock_unseen or dump.vsock_unseen
        return rows

    def look_again(self, connections: bool = False) -> None:
        """Learn anew which unix sockets have something in their queue; or list every connection of TCP."""
        self.waiting = set()
        for space in [space for space in self.known.values() if space.dumped]:
            if self._step_into(space):
                try:
                    with Dump(space.number, self.coverage) as dump:
                        if connections:
                            dump.list_connections(0)
                        else:
                            dump.unix()
                    self.waiting |= dump.waiting
                    self.listed += dump.listed
                finally:
                    self._step_back(space)

    def tunnels(self, number: int) -> "dict[int, bool]":
        """The ports that tunnel devices of a namespace make the kernel listen on; see `tunnel_ports`."""
        found: dict[int, bool] = {}
        space = self.known.get(number)
        if space is not None and self._step_into(space):
            kernel = Kernel(NETLINK_ROUTE)
            try:
                for data in kernel.ask(bytes(16), kind=RTM_GETLINK)[0]:  # struct ifinfomsg
                    found.update(tunnel_ports(data))
            except BROKEN:
                pass  # then nothing is proved
            finally:
                kernel.close()
                self._step_back(space)
        return found

    def _enter(self, space: Namespace) -> bool:
        for look_again in (False, True):
            if look_again:
                self._look_again(space)
            for path in space.doors:
                try:
                    if self._step_in(space.number, path):
                        return True
                except OSError as error:
                    if error.errno not in GONE:
                        space.refused = text(str(error.strerror or error.errno).encode("utf-8", "replace"))
            if space.refused:
                detail = f"network namespace {space.number} could not be entered: {space.refused}"
                self.coverage.gap("netns_not_entered", detail, space.number)
                return False
        if space.mounted:
            detail = f"network namespace {space.number} is mounted where it cannot be reached"
            self.coverage.gap("netns_not_entered", detail, space.number)
            return False
        del self.known[space.number]  # it is gone, and its sockets with it
        return False

    def _look_again(self, space: Namespace) -> None:
        link = f"net:[{space.number}]"
        space.doors = []
        for pid in list_pids(self.proc):
            path = f"{self.proc}/{pid}/ns/net"
            try:
                if posix.readlink(path) == link:
                    space.add_door(path)
            except OSError:
                continue

    def _step_in(self, number: int, path: str) -> bool:
        # O_PATH first: the path may lead through a container's own tree to anything, a device for one.
        place = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
        try:
            if posix.fstat(place).st_ino != number:
                return False  # the process number was reused, or something was mounted over the path
            door = posix.open(f"/proc/self/fd/{place}", posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
        finally:
            posix.close(place)
        try:
            set_namespace(door)
        finally:
            posix.close(door)
        return True


def sockets_in_use() -> int:
    """Sockets of every kind in the current namespace (sockstat_seq_show); 0 if that cannot be told."""
    words = read_or("/proc/thread-self/net/sockstat").split(None, 3)
    return int(words[2]) if len(words) > 2 and words[2].isdigit() else 0


def can_ask_sockets() -> bool:
    """Whether the kernel has pidfd_getfd(2)."""
    numbers = [int(word) for word in posix.uname()[2].split("-")[0].split(".")[:2] if word.isdigit()]
    return numbers >= [5, 6]


class Libc:
    """The C library, for kernel calls that Python lacks.

    Without ctypes, whose Python part costs 3 ms: `_ctypes` is the C module below it.
    """

    def __init__(self) -> None:
        try:
            self.module = __import__("_ctypes")
            number = type("c_long", (self.module._SimpleCData,), {"_type_": "l"})  # noqa: SLF001  (its name)
            self.kind = type("call", (self.module.CFuncPtr,), {"_flags_": 1 | 8, "_restype_": number})
            self.library = self.module.dlopen(None, 0)
        except (ImportError, AttributeError, OSError):
            raise OSError(errno.ENOSYS, "this Python has no ctypes") from None

    def call(self, name: str, *arguments: int) -> int:
        """What a function returns that returns -1 for failure. Raises OSError then."""
        result = int(self.kind(self.module.dlsym(self.library, name))(*arguments))
        if result == -1:
            code = self.module.get_errno()
            raise OSError(code, posix.strerror(code))
        return result


def set_namespace(handle: int) -> None:
    """setns(2) to a network namespace. Raises OSError."""
    if hasattr(posix, "setns"):  # Python 3.12
        posix.setns(handle, CLONE_NEWNET)
    else:
        Libc().call("setns", handle, CLONE_NEWNET)


# System call numbers of kcmp(2), and the kind of comparison (linux/kcmp.h).
KCMP = {"x86_64": 312, "aarch64": 272, "riscv64": 272, "loongarch64": 272, "ppc64le": 354, "s390x": 343}
KCMP_FILES = 2


class TableCompare:
    """kcmp(2): whether two threads share one table of descriptors. Exact, and cheaper than reading both."""

    def __init__(self) -> None:
        self.ready = False
        self.libc: Libc | None = None

    def same(self, one: str, other: str) -> bool:
        """False also when the kernel cannot tell: then both are read."""
        if not self.ready:
            self.ready = True
            self._prepare()
        return self._call(one, other) == 0

    def _prepare(self) -> None:
        if sys.maxsize < 1 << 32 or posix.uname()[4] not in KCMP:
            return  # a 32-bit Python on a 64-bit kernel has other numbers
        try:
            self.libc = Libc()
        except OSError:
            return
        me = str(posix.getpid())
        if self._call(me, me) != 0:
            self.libc = None

    def _call(self, one: str, other: str) -> int:
        if self.libc is None:
            return -1
        number = KCMP[posix.uname()[4]]
        try:
            return self.libc.call("syscall", number, int(one), int(other), KCMP_FILES, 0, 0)
        except OSError:
            return -1


# ---------------------------------------------------------------- readers: what a process is


class Executables:
    """Tells shells from other programs by what the file *is*: name, identity, content; and verifies paths."""

    def __init__(self, mounts: "dict[str, Mounts]") -> None:
        self.kinds: dict[tuple[int, int], str] = {}
        self.sizes: dict[int, list[tuple[str, str]]] = {}
        self.by_content: dict[tuple[int, int], str] = {}
        self.digests: dict[str, str] = {}
        self.folders: dict[bytes, bytes] = {}  # without links
        self.mounts = mounts
        self.remote = mounts[mount_space("/proc/self/")].remote
        listed = [line for line in read_or("/etc/shells").split(b"\n") if line.startswith(b"/")]
        usual = [_raw(folder + "/" + name) for folder in SHELL_FOLDERS for name in SHELL_NAMES]
        multi = [_raw(folder + "/" + name) for folder in SHELL_FOLDERS for name in MULTI_CALL_NAMES]
        loaders = [_raw(folder + "/" + name) for folder in LOADER_FOLDERS for name in loaders_in(folder)]
        for kind, paths in (("multi-call", multi), ("loader", loaders), ("shell", listed + usual)):
            for path in paths:
                self._register(path.strip(), kind)

    def _register(self, path: bytes, kind: str) -> None:
        """Note one file. Multi-call binaries come first: /bin/sh may be a link to one."""
        try:
            found = self.look(path)
        except OSError:
            return
        if base_name(path) not in NOT_SHELLS and found[:2] not in self.kinds:
            self.kinds[found[:2]] = kind
            self.sizes.setdefault(found[2], []).append((_name(path), kind))

    def look(self, path: bytes) -> "tuple[int, int, int]":
        """Our own look at a path: (device, inode, size). Raises OSError, also where it might block."""
        found = posix.lstat(self._resolved(path))
        return found.st_dev, found.st_ino, found.st_size

    def _resolved(self, path: bytes, links: int = 9) -> bytes:
        """The path without links, one step at a time: none into a file system that may hang."""
        folder, _, name = path.rpartition(b"/")
        if not links or path.count(b"/") > 64 or b"\0" in path:
            raise OSError(errno.EDEADLK, "might block")
        if folder and folder not in self.folders:
            self.folders[folder] = self._resolved(folder, links)
        above = self.folders[folder] if folder else b""
        if name in (b"", b"."):
            return above
        if name == b"..":
            return above.rpartition(b"/")[0]
        whole = above + b"/" + name
        if (whole + b"/").startswith(self.remote):
            raise OSError(errno.EDEADLK, "might block")
        if posix.lstat(whole).st_mode & 0o170000 != 0o120000:
            return whole
        target = posix.readlink(whole)
        return self._resolved(target if target[:1] == b"/" else above + b"/" + target, links - 1)

    def is_file(self, path: bytes, status: "tuple[int, int, int]") -> "bool | None":
        """Whether our own look at a path finds this file; None if the look itself fails."""
        try:
            return self.look(path)[:2] == status[:2]
        except OSError as error:
            # The kernel tells paths without links: one that leads into what may hang is of another file.
            return False if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.EDEADLK) else None

    def status(self, base: str, path: bytes) -> "tuple[int, int, int] | None":
        """(device, inode, size) of what a process executes, by its directory; None where asking might block.

        `path` is what its mount namespace calls it. Raises OSError.
        """
        space = mount_space(base)
        if space not in self.mounts:
            self.mounts[space] = Mounts(base)
        mounts = self.mounts[space]
        if (path + b"/").startswith(mounts.remote + self.remote):
            return None
        place = posix.open(base + "exe", posix.O_PATH | posix.O_CLOEXEC)
        try:
            # The path tells nothing of a mount that was detached.
            number = record(f"/proc/self/fdinfo/{place}").partition(b"mnt_id:")[2].split(None, 1)[:1]
            if number and number[0] not in mounts.local:  # Linux 3.15
                mounts.local |= Mounts(base).local  # who changed its root directory sees but a part
                if number[0] not in mounts.local:
                    return None
            found = posix.fstat(place)
            return found.st_dev, found.st_ino, found.st_size
        finally:
            posix.close(place)

    def is_ours(self, base: str, path: bytes) -> bool:
        """Whether a path not looked at is one of ours too: elsewhere anyone may have mounted over it."""
        ours = mount_space("/proc/self/")
        return (path + b"/").startswith(self.remote) and mount_space(base) == ours

    def kind(self, path: bytes, found: "tuple[int, int, int]", link: str) -> str:
        """shell, multi-call, loader, unknown or empty. `link` opens the executable itself, deleted or not."""
        name = base_name(path)
        identity = found[:2]
        if identity in self.kinds:
            return self.kinds[identity]
        if identity not in self.by_content:
            self.by_content[identity] = self._compare(found[2], link)
        known = self.by_content[identity]
        if known not in ("", "unknown"):
            return known  # whatever it is called: a shell may be called busybox
        if name in MULTI_CALL_NAMES:
            return "multi-call"
        if name in SHELL_NAMES:
            return "shell"
        return "loader" if name.startswith(LOADER_NAMES) else known

    def _compare(self, size: int, link: str) -> str:
        """The kind of a known file with the same content, for a shell copied under another name."""
        if size > COPY_LIMIT:
            return "unknown" if size in self.sizes else ""
        for path, kind in self.sizes.get(size, ()):
            try:
                if path not in self.digests:
                    self.digests[path] = sha256(read(path, COPY_LIMIT))
                if self.digests[path] == sha256(read(link, COPY_LIMIT)):
                    return kind
            except OSError:
                return "unknown"
        return ""

    def is_shell(self, kind: str, argv: "list[bytes]", comm: bytes) -> "bool | None":
        """Whether a process that runs an executable of this kind is a shell; None if that cannot be told."""
        if kind == "multi-call":
            applet = base_name(argv[0]) if argv else ""
            if applet.startswith(MULTI_CALL_NAMES):
                applet = base_name(argv[1]) if len(argv) > 1 else ""
            return applet in SHELL_NAMES or base_name(comm) in SHELL_NAMES
        if kind == "loader":
            program = loaded_program(argv)
            if base_name(program) in SHELL_NAMES:
                return True
            try:
                # What runs is what was loaded then: a path that is relative, or gone, tells nothing now.
                where = self._resolved(program) if program[:1] == b"/" else b""
                inner = self.kind(program, self.look(where), _name(where))
            except OSError:
                return None
            return None if inner in ("unknown", "loader", "multi-call") else inner == "shell"
        return None if kind == "unknown" else kind == "shell"


class Mounts:
    """What a process sees mounted: numbers of file systems that answer, and where those are that may hang."""

    def __init__(self, base: str, ours: bool = False) -> None:
        self.local: set[bytes] = set()
        remote = []
        self.namespaces: list[tuple[int, bytes]] = []  # network namespaces, and where they are mounted
        for line in parse_mountinfo(read_or(base + "mountinfo")):
            number, root, point, kind, _ = line
            if _name(kind).startswith(REMOTE_FILE_SYSTEMS) and not (ours and point == b"/"):
                remote.append(point.rstrip(b"/") + b"/")
            else:
                self.local.add(number)
            if kind == b"nsfs" and root.startswith(b"net:["):
                self.namespaces.append((link_number(_name(root)), point))
        self.remote = tuple(remote)


def our_mounts() -> "dict[str, Mounts]":
    """Mounts by mount namespace, our own to begin with. Raises OSError."""
    return {mount_space("/proc/self/"): Mounts("/proc/self/", True)}


def mount_space(base: str) -> str:
    """The mount namespace of a process, by its directory. Raises OSError."""
    return posix.readlink(base + "ns/mnt")


def loaders_in(folder: str) -> "list[str]":
    """The dynamic loaders in a folder: `ld.so PROGRAM` runs a program under the loader's name."""
    try:
        return [name for name in posix.listdir(folder) if name.startswith(LOADER_NAMES)]
    except OSError:
        return []


def base_name(path: bytes) -> str:
    """The last part of a path without a login shell's dash and a version: -bash, zsh-5.9, ksh93."""
    name = text(path.rpartition(b"/")[2]).lstrip("-")
    return name if name.startswith("ld") else name.rstrip("0123456789.-") or name


def loaded_program(argv: "list[bytes]") -> bytes:
    """The program in `ld.so [options] program ...`."""
    rest = argv[1:]
    while rest and rest[0].startswith(b"-"):
        takes_value = _name(rest[0]) in LOADER_VALUE_OPTIONS
        rest = rest[2 if takes_value else 1 :]
    return rest[0] if rest else b""


class Describer:
    """Reads what there is to know of a process from its directory, which the caller has pinned."""

    def __init__(self, mounts: "dict[str, Mounts]", argv_mode: object, etc: str = "/etc") -> None:
        self.argv_mode = argv_mode
        self.executables = Executables(mounts)
        self.users = parse_ids(read_or(etc + "/passwd"))
        self.groups = parse_ids(read_or(etc + "/group"))
        switch = read_or(etc + "/nsswitch.conf")
        self.labels = True  # until a process shows that no security module labels them
        self.booted = time.time() - time.clock_gettime(7)  # CLOCK_BOOTTIME, which start times count from
        self.ticks = posix.sysconf("SC_CLK_TCK")
        # Workers have one command line, one cgroup, and often one second of birth.
        self.redacted: dict[tuple[bytes, ...], list[str]] = {}
        self.cgroups: dict[bytes, str | None] = {}
        self.seconds: dict[int, str] = {}
        self.all_users = bool(self.users) and only_files(switch, b"passwd")
        self.all_groups = bool(self.groups) and only_files(switch, b"group")

    def describe(self, base: str) -> "dict[str, object]":
        """The process as JSON fields; `base` is its directory relative to the working directory.

        Raises OSError (ENOENT or ESRCH) when it is gone. What may not be read is left out.
        """
        stat = record(base + "stat")
        found: dict[str, object] = {}
        kernel_thread = self._add_stat(found, stat)
        self._add_status(found, base)
        source = base if found.get("state") != "Z" else live_thread(base)
        argv = self._add_argv(found, source)
        if kernel_thread:
            found.update(exe=None, shell=False)
        else:
            self._add_exe(found, source, argv)
        try:
            found["cgroup"] = self._placed(record(base + "cgroup"))
        except OSError:
            pass
        self._add_security(found, source)
        return found

    def _placed(self, cgroup: bytes) -> "str | None":
        if cgroup not in self.cgroups:
            self.cgroups[cgroup] = parse_cgroup(cgroup)
        return self.cgroups[cgroup]

    def _started(self, ticks: int) -> str:
        second = int(self.booted + ticks / self.ticks)
        if second not in self.seconds:
            self.seconds[second] = timestamp(second)
        return self.seconds[second]

    def _add_security(self, found: "dict[str, object]", source: str) -> None:
        try:
            found["namespaces"] = {
                kind: link_number(posix.readlink(f"{source}ns/{kind}"))
                for kind in ("net", "mnt", "pid", "user")
            }
        except OSError:
            pass
        login = read_or(source + "loginuid", 64, True).strip()
        if login.isdigit():
            found["loginuid"] = int(login) if int(login) != MAX_U32 else None
        try:
            label = record(source + "attr/current") if self.labels else b""
            found["lsm"] = text(label.rstrip(b"\0\n")) or None
        except OSError as error:
            if error.errno == errno.EINVAL:
                self.labels, found["lsm"] = False, None

    def _add_stat(self, found: "dict[str, object]", data: bytes) -> bool:
        try:
            comm, fields = parse_stat(data)
            found.update(comm=text(comm), state=text(fields[0]))
            parent, start = natural(fields[1]), natural(fields[19])
            found.update(ppid=parent, start_time=start, started_at=self._started(start))
            found.update(process_group=natural(fields[2]), session=natural(fields[3]))
            found["tty"] = terminal(natural(fields[4]))
            return bool(int(fields[6]) & PF_KTHREAD)
        except (ValueError, IndexError):
            return False

    def _add_status(self, found: "dict[str, object]", base: str) -> None:
        status = parse_status(
            read_or(base + "status", FILE_LIMIT, True), (b"Uid", b"Gid", b"NSpid", b"CapEff")
        )
        if status.get(b"CapEff"):
            found["capabilities"] = text(status[b"CapEff"][0])
        try:
            uid, euid = [natural(word) for word in status[b"Uid"][:2]]
            gid = natural(status[b"Gid"][1])
        except (KeyError, ValueError, IndexError):
            return
        found.update(uid=uid, euid=euid, gid=gid)
        if self.all_users or euid in self.users:
            found["user"] = self.users.get(euid)
        if self.all_groups or gid in self.groups:
            found["group"] = self.groups.get(gid)
        try:
            pids = status.get(b"NSpid", [])
            environ = record(base + "environ")
        except OSError:
            return
        if pids and len(environ) < FILE_LIMIT:
            found["listen_fds"] = listen_fds(environ, pids)

    def _add_argv(self, found: "dict[str, object]", source: str) -> "list[bytes] | None":
        try:
            raw = split_argv(read(source + "cmdline", ARGV_LIMIT + 1, True))
        except OSError:
            return None
        shown = [text(arg) for arg in raw]
        whole = sum(map(len, raw)) + len(raw) <= ARGV_LIMIT
        if not whole:
            shown.append(f"[cut at {ARGV_LIMIT} bytes]")
        if not whole or any(len(arg) > TEXT_LIMIT for arg in raw):
            found["argv_cut"] = True
        if self.argv_mode != "none":
            found["argv"] = (shown if self.argv_mode == "full" else self._redacted(raw, shown)) or None
        return raw

    def _redacted(self, raw: "list[bytes]", shown: "list[str]") -> "list[str]":
        if tuple(raw) not in self.redacted:
            self.redacted[tuple(raw)] = redact(shown)
        return self.redacted[tuple(raw)]

    def _add_exe(self, found: "dict[str, object]", source: str, argv: "list[bytes] | None") -> None:
        link = source + "exe"
        try:
            path = _raw(posix.readlink(link))
            status = self.executables.status(source, path)
        except OSError:
            return
        path, deleted = self._undeleted(path, status)
        found.update(exe=text(path), exe_deleted=deleted)
        if status is None:
            if base_name(path) in SHELL_NAMES:
                found["shell"] = True
            if not self.executables.is_ours(source, path):
                found["exe_verified"] = False
            return
        found["exe_file"] = f"{status[0]}:{status[1]}"
        verified = None if deleted else self.executables.is_file(path, status)
        if verified is not None:
            found["exe_verified"] = verified
        kind = self.executables.kind(path, status, link)
        if argv is not None or kind not in ("multi-call", "loader"):
            comm = str(found.get("comm", "")).encode("utf-8")
            shell = self.executables.is_shell(kind, argv or [], comm)
            if shell is not None:
                found["shell"] = shell

    def _undeleted(self, path: bytes, status: "tuple[int, int, int] | None") -> "tuple[bytes, bool]":
        """(path without the kernel's mark, whether the file was deleted): a name may end like the mark."""
        mark = b" (deleted)"
        if not path.endswith(mark):
            return path, False
        if status is not None and self.executables.is_file(path, status):
            return path, False
        return path[: -len(mark)], True


def live_thread(base: str) -> str:
    """The directory of a thread that still runs, where the process's first thread has ended."""
    try:
        for thread in posix.listdir(base + "task"):
            directory = f"{base}task/{thread}/"
            comm_and_fields = parse_stat(read(directory + "stat"))
            if comm_and_fields[1][:1] not in ([b"Z"], [b"X"]):
                return directory
    except (OSError, ValueError):
        pass
    return base


# ---------------------------------------------------------------- readers: who holds what


class Walk:
    """Walks the descriptors of every process and keeps *every* holder of each wanted socket."""

    mode = "walk"

    def __init__(self, proc: str, coverage: Coverage, describer: Describer, budget: "Budget") -> None:
        self.proc = proc
        self.coverage = coverage
        self.describer = describer
        self.budget = budget
        self.tables = TableCompare()
        self.processes: dict[int, dict[str, object]] = {}
        self.owners: dict[str, dict[int, Holding]] = {}
        self.held_by: dict[str, dict[int, Holding]] = {}
        self.net_links: dict[str, str] = {}
        self.strangers = Strangers(proc)
        self.kernel: set[str] = set()  # sockets that provably are the kernel's own
        self.may_queue: set[str] = set()  # unix sockets that may have descriptors in flight to them
        self.waiting: set[str] = set()  # those of them that have something in their queue
        self.met: set[str] = set()  # those of them that some process holds
        self.idle: set[str] = set()  # those of them that have none in flight, in this pass
        self.queues: dict[str, dict[int, Holding]] = {}  # those that have, with who could receive them

    def visit(self, pids: "list[str]", want: "set[str]") -> None:
        """Look into these processes for these links. Stops, with a gap, when the budget is used up."""
        self.idle = set()
        wide = want | {RING} | self.may_queue
        for count, pid in enumerate(pids):
            if count % 32 == 0 and self.budget.is_spent():
                break
            self._visit(pid, want, wide)
        posix.chdir("/")

    def _visit(self, pid: str, want: "set[str]", wide: "set[str]") -> None:
        try:
            posix.chdir(f"{self.proc}/{pid}/fd")  # pins the process: a reused number reads ENOENT here
            hits = [(link, name, "") for link, name in self._links(pid, "", posix.listdir("."), wide)]
            threads = posix.stat("../task").st_nlink - 2
            if threads > 1 and pid not in self.coverage.denied:
                hits += self._thread_links(pid, wide)
        except OSError as error:
            self.coverage.missed(pid, error)
            return
        self.coverage.seen.add(pid)
        if hits:
            try:
                self._record(pid, hits, want)
            except OSError as error:
                self.coverage.missed(pid, error)

    def _links(self, pid: str, prefix: str, names: "list[str]", want: "set[str]") -> "list[tuple[str, str]]":
        """(link, descriptor) of each wanted link in one table of descriptors."""
        found = []
        for start in range(0, len(names), READLINK_BATCH):
            batch = names[start : start + READLINK_BATCH]
            try:
                links = [*map(posix.readlink, [prefix + name for name in batch] if prefix else batch)]
            except OSError:
                links = [self._link(prefix + name, pid) for name in batch]
            if not want.isdisjoint(links):
                found += [(link, name) for link, name in zip(links, batch) if link in want]
            # Sets do this at the speed of C; few links are new.
            new = [link for link in {*links} - self.strangers.listed if link[:4] in ("sock", "net:")]
            if new:
                self._note(pid, prefix, {link: name for link, name in zip(links, batch) if link in new})
        return found

    def _note(self, pid: str, prefix: str, new: "dict[str, str]") -> None:
        for link, name in new.items():
            if link[:4] == "net:":
                self.net_links.setdefault(link, f"{self.proc}/{pid}/fd/{prefix + name}")
            else:
                self.strangers.note(link, pid, prefix + name)

    def _link(self, name: str, pid: str) -> str:
        try:
            return posix.readlink(name)
        except OSError as error:
            if error.errno in DENIED:
                self.coverage.denied.add(pid)
                self.coverage.denied_fds += 1
            return ""

    def _thread_links(self, pid: str, want: "set[str]") -> "list[tuple[str, str, str]]":
        """What threads hold in tables of their own, and what is left when the first thread has ended."""
        found: list[tuple[str, str, str]] = []
        read_already = [pid]
        for thread in posix.listdir("../task"):
            self._note_namespace(pid, thread)
            if thread == pid or any(self.tables.same(other, thread) for other in read_already):
                continue
            read_already = [pid, thread]
            prefix = f"../task/{thread}/fd/"
            try:
                names = posix.listdir(prefix)
            except OSError as error:
                if error.errno in DENIED:
                    self.coverage.denied.add(pid)
                continue
            found += [(link, name, thread) for link, name in self._links(pid, prefix, names, want)]
        return found

    def _note_namespace(self, pid: str, thread: str) -> None:
        try:
            path = f"{self.proc}/{pid}/task/{thread}/ns/net"
            self.net_links.setdefault(posix.readlink(f"../task/{thread}/ns/net"), path)
        except OSError:
            pass  # the process itself tells: gone or denied

    def _record(self, pid: str, hits: "list[tuple[str, str, str]]", want: "set[str]") -> None:
        number = int(pid)
        kept = [hit for hit in hits if hit[0] in want or hit[0] == RING]
        queues = [hit for hit in hits if hit[0] in self.may_queue and self._has_queued(*hit)]
        if kept or queues:
            self._describe(number)
        for link, name, thread in kept:
            if link == RING:
                self._record_ring(number, thread, name)
            else:
                place = f"../task/{thread}/fdinfo/{name}" if thread else f"../fdinfo/{name}"
                holding(self.owners, link, number).add(
                    name, thread, closes_on_exec(read_or(place, 4096, True))
                )
        for link, name, thread in queues:
            holding(self.queues, link, number).add(name, thread)

    def _describe(self, number: int) -> None:
        known = self.processes.get(number)
        if known is not None and known.get("start_time") != start_time("../"):
            self._forget(number)
            known = None
        if known is None:
            self.processes[number] = self.describer.describe("../")

    def _has_queued(self, link: str, name: str, thread: str) -> bool:
        """Whether descriptors are in flight to this unix socket, or may be, if the kernel does not tell."""
        self.met.add(link)
        if link in self.idle:
            return False
        if may_hold(f"../task/{thread}" if thread else "..", name, link in self.waiting):
            return True
        self.idle.add(link)
        return False

    def _record_ring(self, pid: int, thread: str, name: str) -> None:
        base = f"../task/{thread}/" if thread else "../"
        try:
            sockets, whole = ring_files(read(base + "fdinfo/" + name))
        except (OSError, ValueError):
            sockets, whole = [], False
        for link in sockets:
            holding(self.held_by, link, pid).add(name, thread)
        if not whole:
            detail = f"an io_uring of process {pid} may hold sockets that it does not name"
            self.coverage.gap("hidden_holders", detail)

    def _forget(self, pid: int) -> None:
        """The process that had this number is gone, and with it what it held."""
        self.coverage.vanished.add(str(pid))
        del self.processes[pid]
        for table in (self.owners, self.held_by, self.queues):
            for link in [link for link, holders in table.items() if pid in holders]:
                del table[link][pid]
                if not table[link]:
                    del table[link]

    def settle_queues(self, want: "set[str]") -> None:
        """Look again at descriptors in flight: received meanwhile, and by whom is seen, or a gap."""
        before, self.queues = self.queues, {}
        pids = sorted({pid for holders in before.values() for pid in holders})
        # The queue first, then who holds what: a descriptor cannot slip from the one to the other unseen.
        for link, holders in before.items():
            if any(self._still_queued(link, pid, holder) for pid, holder in holders.items()):
                self.queues[link] = holders
        self.visit([str(pid) for pid in pids], want)
        # Something is in the queue of a socket that nobody was seen holding, or that a ring holds.
        hidden = (self.waiting - self.met) | (self.may_queue & set(self.held_by))
        detail = ""
        if self.queues:
            example = min(pid for holders in self.queues.values() for pid in holders)
            detail = f"descriptors are in flight in unix sockets, to process {example} for one"
        elif hidden:
            detail = f"something is in flight in a unix socket that nobody was seen to hold ({min(hidden)})"
        if detail:
            self.coverage.gap("hidden_holders", detail)

    def receivers(self) -> "dict[int, Holding]":
        """Every process that could receive a descriptor in flight, with the unix sockets that it comes by."""
        found: dict[int, Holding] = {}
        for holders in self.queues.values():
            for pid, holder in holders.items():
                both = found.setdefault(pid, Holding())
                both.fds |= holder.fds
                both.tids |= holder.tids
                both.kept |= holder.kept
        return found

    def _still_queued(self, link: str, pid: int, holder: "Holding") -> bool:
        base = f"{self.proc}/{pid}"
        places = [f"{base}/task/{tid}" for tid in holder.tids] or [base]
        waiting = link in self.waiting
        try:
            return any(may_hold(place, str(fd), waiting) for place in places for fd in holder.fds)
        except OSError:
            return False  # gone, and its sockets with it or to others, whose own entries tell

    def climb(self) -> None:
        """Describe every ancestor of every holder, and the leaders of their sessions, who may be none."""
        for pid in list(self.processes):
            child = self.processes[pid]
            parent = child.get("ppid")
            while isinstance(parent, int) and parent and parent not in self.processes:
                found = self._ancestor(parent, child)
                if found is None:
                    break
                self.processes[parent] = child = found
                parent = child.get("ppid")
        for child in list(self.processes.values()):
            leader = child.get("session")
            if isinstance(leader, int) and leader and leader not in self.processes:
                found = self._ancestor(leader, child)
                if found is not None:
                    self.processes[leader] = found
        posix.chdir("/")

    def _ancestor(self, pid: int, child: "dict[str, object]") -> "dict[str, object] | None":
        try:
            posix.chdir(f"{self.proc}/{pid}")
            found = self.describer.describe("")
        except OSError:
            return None
        mine, theirs = found.get("start_time"), child.get("start_time")
        if isinstance(mine, int) and isinstance(theirs, int) and mine > theirs:
            return None  # younger than its child: another process with a reused number
        return found


WALKS = [Walk]  # the last one is used


def may_hold(base: str, fd: str, waiting: bool) -> bool:
    """Whether descriptors are, or may be, in flight to a unix socket. Raises OSError if that is gone."""
    try:
        count = queued_descriptors(record(f"{base}/fdinfo/{fd}"))
    except OSError as error:
        if error.errno in GONE:
            raise
        count = None
    return waiting if count is None else count > 0


def closes_on_exec(data: bytes) -> "bool | None":
    """What a descriptor's fdinfo says of O_CLOEXEC (`flags`, octal, seq_show of fs/proc/fd.c)."""
    try:
        return bool(int(data.partition(b"flags:")[2].split(None, 1)[0], 8) & posix.O_CLOEXEC)
    except (IndexError, ValueError):
        return None


class Strangers:
    """Sockets that no list named: one may be all that keeps a network namespace alive.

    To ask a socket where it lives is to hold it for some microseconds (pidfd_getfd(2)).
    """

    def __init__(self, proc: str) -> None:
        self.proc = proc
        self.listed: set[str] = set()
        self.places: dict[str, tuple[str, str]] = {}  # process, descriptor relative to its fd directory
        self.unasked = 0
        self.why = ""
        self.vsock_held = False
        self.libc: Libc | None = None

    def note(self, link: str, pid: str, name: str) -> None:
        """Remember a socket that no list named, and a descriptor of it."""
        self.listed.add(link)
        if len(self.places) < STRANGERS_LIMIT:
            self.places[link] = (pid, name)
        else:
            self._give_up("there are too many")

    def _give_up(self, why: str) -> None:
        self.unasked += 1
        self.why = self.why or why

    def ask(self) -> "dict[str, str]":
        """Links of the namespaces in which the sockets live that were noted, and a way into each."""
        found: dict[str, str] = {}
        for link, (pid, name) in self.places.items():
            try:
                posix.chdir(f"{self.proc}/{pid}/fd")
                if self._may_listen(name, link):
                    self._ask(pid, name, link, found)
            except OSError as error:
                if error.errno not in (*GONE, errno.EBADF):
                    self._give_up(posix.strerror(error.errno or 0))
        self.places = {}
        posix.chdir("/")
        return found

    def _may_listen(self, name: str, link: str) -> bool:
        if posix.readlink(name) != link:
            return False
        try:
            protocol = posix.getxattr(name, "system.sockprotoname").rstrip(b"\0")
        except OSError:
            return True  # if it is gone, the next step finds out
        self.vsock_held = self.vsock_held or protocol == b"AF_VSOCK"
        return not protocol.startswith(DEAF_PROTOCOLS)

    def _ask(self, pid: str, name: str, link: str, found: "dict[str, str]") -> None:
        number = name.rpartition("/")[2]
        thread = name.split("/")[2] if "/" in name else ""
        owner = self._call("syscall", PIDFD_OPEN, int(thread or pid), PIDFD_THREAD if thread else 0)
        try:
            copy = self._call("syscall", PIDFD_GETFD, owner, int(number), 0)
        finally:
            posix.close(owner)
        try:
            if posix.readlink(f"/proc/self/fd/{copy}") != link:
                return  # the process closed the socket, and the number is another file's now
            door = self._call("ioctl", copy, SIOCGSKNS)
        finally:
            posix.close(copy)
        net = posix.readlink(f"/proc/self/fd/{door}")
        if net in found:
            posix.close(door)
        else:
            found[net] = f"/proc/self/fd/{door}"  # stays open: it may be the only way in

    def _call(self, name: str, *arguments: int) -> int:
        self.libc = self.libc or Libc()
        return self.libc.call(name, *arguments)


class Holding:
    """The descriptors by which one process holds one socket, and threads that hold it on their own."""

    def __init__(self) -> None:
        self.fds: set[int] = set()
        self.tids: set[int] = set()
        self.kept: set[int] = set()  # descriptors that a program started from here would have too

    def add(self, fd: str, thread: str, closes: "bool | None" = None) -> None:
        """Note a descriptor, the thread if it has its own table, and whether exec(2) closes it."""
        self.fds.add(int(fd))
        if closes is not True:
            self.kept.add(int(fd) if closes is False else -1)
        if thread:
            self.tids.add(int(thread))


def holding(table: "dict[str, dict[int, Holding]]", link: str, pid: int) -> Holding:
    """The entry of a process in a table of holders."""
    return table.setdefault(link, {}).setdefault(pid, Holding())


def start_time(base: str) -> "int | None":
    """The start time of a process in clock ticks since boot, None if its stat makes no sense."""
    try:
        return int(parse_stat(read(base + "stat"))[1][19])
    except (ValueError, IndexError):
        return None


class Budget:
    """CPU seconds and MiB of memory that the walk may use."""

    def __init__(self, seconds: float, mib: int, coverage: Coverage) -> None:
        self.seconds = seconds
        self.mib = mib
        self.coverage = coverage
        self.resource = __import__("resource")

    def is_spent(self) -> bool:
        """Whether either is used up, of the memory three quarters; says so in the coverage."""
        usage = self.resource.getrusage(0)
        if usage.ru_utime + usage.ru_stime >= self.seconds:
            stopped = f"{self.seconds:g} CPU seconds"
        elif usage.ru_maxrss >= self.mib * 768:  # in KiB
            stopped = f"three quarters of {self.mib} MiB of memory"
        else:
            return False
        self.coverage.gap("budget", f"stopped after {stopped}, before every process was seen")
        return True


# ---------------------------------------------------------------- assemble


def links(rows: "list[Row]") -> "set[str]":
    """What descriptors of these sockets read as."""
    return {row.link() for row in rows if row.inode}


def take_census(proc: str, config: Config) -> "dict[str, object]":
    """The whole snapshot as JSON values."""
    wall = time.time()
    clock = time.monotonic()
    coverage = Coverage()
    judge_privileges(proc, coverage)
    spaces = Namespaces(proc, coverage)
    describer = Describer(spaces.mounts, config.argv)
    walk = WALKS[-1](proc, coverage, describer, Budget(config.budget_seconds, config.budget_mib, coverage))
    rows = find_listeners(spaces, walk)
    look_at_queues(rows, spaces, walk)
    rows = look_twice(rows, spaces, walk)
    find_kernel_sockets(rows, spaces, walk)
    walk.climb()
    judge_walk(coverage, spaces, walk)
    mine = own_chain(proc)
    for pid, process in walk.processes.items():
        process["self"] = pid in mine
    return {
        "schema": SCHEMA,
        "host": host_facts(config),
        "collected_at": timestamp(wall),
        "agent": {
            "version": config.version,
            "sha256": config.sha256,
            "mode": walk.mode,
            "interpreter": "python " + ".".join(map(str, sys.version_info[:3])),
            "wall_seconds": round(time.monotonic() - clock, 3),
            "cpu_seconds": round(time.process_time(), 3),
        },
        "coverage": coverage_fields(coverage),
        "network_namespaces": [
            namespace_fields(space, spaces, rows, walk) for space in sorted_spaces(spaces)
        ],
        "sockets": [
            socket_fields(row, walk) for row in sorted(rows, key=lambda row: row_order(row, spaces.home))
        ],
        "processes": {str(pid): walk.processes[pid] for pid in sorted(walk.processes)},
    }


def timestamp(seconds: float) -> str:
    """Seconds since the epoch in RFC 3339, UTC, with milliseconds."""
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{int(seconds % 1 * 1000):03d}Z"


def find_listeners(spaces: Namespaces, walk: Walk) -> "list[Row]":
    """Every listening socket, with the walk having looked for its owners in every process.

    Processes and namespaces that appear meanwhile are caught up with: new processes are searched for all
    sockets, all others for the sockets of new namespaces.
    """
    rows: list[Row] = []
    seen: set[str] = set()
    for _ in range(CATCH_UP_ROUNDS + 1):
        fresh = [pid for pid in list_pids(walk.proc) if pid not in seen]
        spaces.find(fresh)
        spaces.add_links(walk.net_links)
        found = spaces.dump_new()
        queues = socket_links(spaces.may_queue) - walk.may_queue
        if not fresh and not found and not queues:
            break
        rows += found
        walk.strangers.listed |= socket_links(spaces.listed)
        walk.may_queue |= queues
        walk.waiting |= socket_links(spaces.waiting)
        walk.visit(fresh, links(rows))
        if (found or queues) and seen:
            walk.visit(sorted(seen), links(found))
        seen.update(fresh)
        spaces.add_links(walk.strangers.ask())
    return rows


def socket_links(numbers: "set[int] | list[int]") -> "set[str]":
    """What descriptors of the sockets with these inodes read as. There may be 100,000: no loop in Python."""
    return {*("socket:[" + "]\nsocket:[".join(map(str, numbers)) + "]").split("\n")} if numbers else set()


def look_at_queues(rows: "list[Row]", spaces: Namespaces, walk: Walk) -> None:
    """Where descriptors may be in flight, look again: a socket among them has no owner, or one too few."""
    if walk.queues or walk.waiting - walk.met:
        spaces.look_again()
        walk.waiting &= socket_links(spaces.waiting)
    walk.settle_queues(links(rows))


def look_twice(rows: "list[Row]", spaces: Namespaces, walk: Walk) -> "list[Row]":
    """The rows without those that vanished meanwhile; those still ownerless are searched for once more."""
    rows = without_vanished(rows, spaces, walk)
    orphans = links(ownerless(rows, walk))
    if orphans and not walk.budget.is_spent():
        walk.visit(list_pids(walk.proc), orphans)
        rows = without_vanished(rows, spaces, walk)
    return rows


def ownerless(rows: "list[Row]", walk: Walk) -> "list[Row]":
    """Those that nobody was seen holding."""
    return [row for row in rows if row.link() not in walk.owners]


def without_vanished(rows: "list[Row]", spaces: Namespaces, walk: Walk) -> "list[Row]":
    """The rows without the ownerless ones that a second list has no more."""
    orphans = ownerless(rows, walk)
    if not orphans or walk.budget.is_spent():
        return rows
    again: dict[tuple[int, object], str] = {}
    gaps = walk.coverage.noted
    for number in sorted({row.netns for row in orphans}):
        space = spaces.known.get(number)
        for row in spaces.dump(space) if space else ():
            again[row.key()] = row.cookie
    if walk.coverage.noted > gaps:
        return rows  # the second list is not whole: it proves nothing
    gone = [row for row in orphans if row.key() not in again or _differ(row.cookie, again[row.key()])]
    walk.coverage.vanished_sockets += len(gone)
    return [row for row in rows if row not in gone]


def find_kernel_sockets(rows: "list[Row]", spaces: Namespaces, walk: Walk) -> None:
    """Note the sockets that provably are the kernel's own: the port of a tunnel device in the same namespace.

    Only one socket can be bound to that port and any address, for such a device shares it with nobody. That
    nobody was seen holding a socket proves nothing: a ring can hold it with neither descriptor nor mapping
    (IORING_SETUP_REGISTERED_FD_ONLY, Linux 6.5).
    """
    tunnels: dict[int, dict[int, bool]] = {}
    for row in ownerless(rows, walk):
        if row.protocol != "udp" or not is_wildcard(row) or row.link() in walk.held_by:
            continue
        if row.netns not in tunnels:
            tunnels[row.netns] = spaces.tunnels(row.netns)
        port = row.fields["port"]
        both = tunnels[row.netns].get(port) if isinstance(port, int) else None
        rivals = [other for other in rows if (other.netns, other.protocol) == (row.netns, "udp")]
        alone = [other.fields["port"] for other in rivals].count(port) == 1
        if both or (both is not None and alone):
            walk.kernel.add(row.link())


def is_wildcard(row: Row) -> bool:
    """Whether a socket is bound to any address of any device, as far as the kernel told (with a cookie)."""
    address = str(row.fields.get("address"))
    return bool(row.cookie) and not row.ifindex and not address.strip("0.:")


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


def judge_privileges(proc: str, coverage: Coverage) -> None:
    """The gaps that come of who we are and where we stand."""
    euid = posix.geteuid()
    capabilities = parse_status(read_or(proc + "/self/status"), (b"CapEff",)).get(b"CapEff", [b"0"])
    traces = bool(int(capabilities[0], 16) >> CAP_SYS_PTRACE & 1)
    if euid:
        coverage.gap("not_root", f"ran as uid {euid}: descriptors of other users' processes cannot be read")
    if not traces:
        coverage.gap("no_sys_ptrace", "without CAP_SYS_PTRACE: descriptors of some processes cannot be read")
    every = parse_mountinfo(read_or(proc + "/self/mountinfo"))
    mounts = [mount for mount in every if mount[2] == _raw(proc)]
    hidden, spared = hides_processes(mounts[-1][4]) if mounts else (False, None)
    # Root of a user namespace of its own is no root to processes outside of it.
    real = traces and euid == 0 and is_initial(proc, "user", INITIAL_USER_NAMESPACE)
    if any(
        mount[2][len(proc) + 1 :][:1].isdigit() for mount in every if mount[2].startswith(_raw(proc) + b"/")
    ):
        coverage.gap("denied_process", "something is mounted over a process's directory in /proc")
    if hidden and not real and spared not in [*posix.getgroups(), posix.getegid()]:
        coverage.gap("hidepid", "/proc is mounted with hidepid: other users' processes are not listed")
    if not is_initial(proc, "pid", INITIAL_PID_NAMESPACE):
        detail = "ran in a pid namespace of its own: owners outside of it cannot be seen"
        coverage.gap("pid_namespace", detail)


def is_initial(proc: str, kind: str, link: str) -> bool:
    """Whether our own namespace of a kind is the first one; False where that cannot be told."""
    try:
        return posix.readlink(f"{proc}/self/ns/{kind}") == link
    except OSError:
        return False


def judge_walk(coverage: Coverage, spaces: Namespaces, walk: Walk) -> None:
    """The gaps that the walk met."""
    if coverage.denied:
        example = min(coverage.denied, key=int)
        detail = f"{len(coverage.denied)} processes could not be looked into, {example} for one"
        coverage.gap("denied_process", detail)
    if coverage.denied_fds:
        coverage.gap("denied_fd", f"{coverage.denied_fds} descriptors could not be read")
    strangers = walk.strangers
    if set(walk.held_by) - strangers.listed:
        spaces.look_again(connections=True)
        if set(walk.held_by) - strangers.listed - socket_links(spaces.listed):
            # It may listen where nobody has looked, and a ring is no way to ask it.
            coverage.gap("netns_not_entered", "an io_uring holds a socket that no list named")
    if strangers.unasked:
        detail = f"{strangers.unasked} sockets could not be asked where they live: {strangers.why}"
        coverage.gap("netns_not_entered", detail)
    if spaces.vsock_unseen and (strangers.vsock_held or strangers.unasked):
        detail = "a process may hold a vsock socket; the kernel cannot list those (no vsock_diag)"
        coverage.gap("protocol_not_dumped", detail, 0, "vsock")
    for space in spaces.known.values():
        if not space.dumped:
            detail = f"network namespace {space.number} appeared too late to be entered"
            coverage.gap("netns_not_entered", detail, space.number)


def coverage_fields(coverage: Coverage) -> "dict[str, object]":
    """The coverage as JSON values: complete means that no gap was met."""
    return {
        "complete": not coverage.gaps,
        "euid": posix.geteuid(),
        "processes": {
            "seen": len(coverage.seen),
            "unreadable": len(coverage.denied),
            "vanished": len(coverage.vanished - coverage.seen),
        },
        "sockets": {"vanished": coverage.vanished_sockets},
        "gaps": coverage.gaps,
        "reduced": coverage.reduced,
    }


def own_chain(proc: str) -> "set[int]":
    """The agent, and what brought it here: its shells, sudo and sshd session, but not the sshd daemon."""
    pid = posix.getpid()
    chain = {pid}
    for _ in range(32):
        pid, name = parent_of(proc, pid), ""
        name = program_of(proc, pid)
        if name.startswith("sshd"):
            if not program_of(proc, parent_of(proc, pid)).startswith("sshd"):
                break
        elif name not in SELF_NAMES:
            break
        chain.add(pid)
    return chain


def parent_of(proc: str, pid: int) -> int:
    """The parent's number, 0 when there is none or it cannot be told."""
    try:
        return int(parse_stat(read(f"{proc}/{pid}/stat"))[1][1])
    except (OSError, ValueError, IndexError):
        return 0


def program_of(proc: str, pid: int) -> str:
    """The base name of what a process executes, else its own word for it."""
    try:
        return _text_of(posix.readlink(f"{proc}/{pid}/exe")).rpartition("/")[2]
    except OSError:
        return text(read_or(f"{proc}/{pid}/comm").rstrip(b"\n"))


def _text_of(name: str) -> str:
    return text(_raw(name))


def host_facts(config: Config) -> "dict[str, object]":
    """Who the host says it is."""
    uname = posix.uname()
    release = parse_release(read_or("/etc/os-release") or read_or("/usr/lib/os-release"))
    hostname = _text_of(uname[1])
    return {
        "name": config.name if isinstance(config.name, str) else hostname,
        "hostname": hostname,
        "machine_id": text(read_or("/etc/machine-id", 64).strip()) or None,
        "boot_id": text(read_or("/proc/sys/kernel/random/boot_id", 64).strip()) or None,
        "kernel": _text_of(uname[2]),
        "arch": _text_of(uname[4]),
        "os": {"id": release.get("ID"), "version_id": release.get("VERSION_ID")},
    }


def sorted_spaces(spaces: Namespaces) -> "list[Namespace]":
    """The agent's own namespace first, then by number."""
    return sorted(spaces.known.values(), key=lambda space: (space.number != spaces.home, space.number))


def namespace_fields(
    space: Namespace, spaces: Namespaces, rows: "list[Row]", walk: Walk
) -> "dict[str, object]":
    """A namespace as JSON values.

    `outside`: inside a container's pid namespace, one that no process we see lives in or holds a listener of.
    """
    fields: dict[str, object] = {
        "id": space.number,
        "host": space.number == spaces.home,
        "name": space.name,
    }
    if space.ephemeral:
        fields["ephemeral_ports"] = space.ephemeral
    contained = any(gap["code"] == "pid_namespace" for gap in walk.coverage.gaps)
    if contained and not space.inhabited:
        fields["outside"] = not any(row.netns == space.number and row.link() in walk.owners for row in rows)
    return fields


def row_order(row: Row, home: int) -> "tuple[bool, int, int, str, str, int]":
    """Our own namespace first, then protocol, address, port or path, inode."""
    port = row.fields.get("port")
    name = f"{port:05d}" if isinstance(port, int) else str(row.fields.get("path"))
    place = PROTOCOL_ORDER.index(row.protocol)
    return (row.netns != home, row.netns, place, name, str(row.fields.get("address")), row.inode)


def socket_fields(row: Row, walk: Walk) -> "dict[str, object]":
    """A socket as JSON values. Without an owner its state is unknown, unless something proves more."""
    link = row.link()
    owners, held_by = walk.owners.get(link, {}), walk.held_by.get(link, {})
    state = "owned" if owners else "io_uring" if held_by else "kernel" if link in walk.kernel else "unknown"
    if state == "unknown" and walk.queues:
        state, held_by = "queue", walk.receivers()
    fields: dict[str, object] = {"protocol": row.protocol, "family": row.family}
    fields.update(row.fields)
    fields.update(
        inode=row.inode, netns=row.netns, owners=holder_fields(owners), held_by=holder_fields(held_by)
    )
    fields["owner_state"] = state
    if row.cookie:
        fields["cookie"] = row.cookie
    return fields


def holder_fields(holders: "dict[int, Holding]") -> "list[dict[str, object]]":
    """Holders as JSON values, by process number."""
    found = []
    for pid in sorted(holders):
        entry: dict[str, object] = {"pid": pid, "fds": sorted(holders[pid].fds)}
        if holders[pid].tids:
            entry["tids"] = sorted(holders[pid].tids)
        if -1 not in holders[pid].kept:
            entry["cloexec"] = sorted(holders[pid].fds - holders[pid].kept)
        found.append(entry)
    return found


# ---------------------------------------------------------------- main: JSON, frame, limits


def encode(value: object) -> str:
    """A JSON value as ASCII text, by the C part of the json module, whose Python part costs 10 ms."""
    try:
        module = __import__("_json")
        quote = module.encode_basestring_ascii
        encoder = module.make_encoder(None, None, quote, None, ":", ",", False, False, True)
    except (ImportError, AttributeError, TypeError):
        return str(__import__("json").dumps(value, separators=(",", ":")))
    return "".join(encoder(value, 0))


def compose(document: "dict[str, object]", limit: int) -> bytes:
    """The document as JSON of at most `limit` bytes; what had to go is a gap."""
    body = encode(document).encode("ascii")
    processes, sockets, coverage = document["processes"], document["sockets"], document["coverage"]
    if len(body) <= limit or not isinstance(processes, dict) or not isinstance(sockets, list):
        return body
    for process in processes.values():
        process.pop("argv", None)
    total = len(sockets)
    while len(body) > limit and isinstance(coverage, dict):
        detail = f"over {limit} bytes: all argv and {total - len(sockets)} of {total} sockets left out"
        gap = {"code": "truncated", "detail": detail}
        short = dict(coverage, complete=False, gaps=[*coverage["gaps"], gap])
        body = encode(dict(document, sockets=sockets, processes=processes, coverage=short)).encode("ascii")
        if not sockets:
            break
        sockets = sockets[: len(sockets) // 2]
        processes = keep_referred(processes, sockets)
    return body


def keep_referred(
    processes: "dict[str, dict[str, object]]", sockets: "list[dict[str, object]]"
) -> "dict[str, dict[str, object]]":
    """The processes that these sockets' owners need, ancestors included."""
    kept = {}
    for socket in sockets:
        for holders in (socket["owners"], socket["held_by"]):
            for holder in holders if isinstance(holders, list) else ():
                pid = str(holder["pid"])
                while pid in processes and pid not in kept:
                    kept[pid] = processes[pid]
                    pid = str(processes[pid].get("ppid"))
    return kept


def sha256(data: bytes) -> str:
    """Hex digest; hashlib itself costs as much to import as the rest of the agent."""
    for name in ("_sha256", "_sha2", "hashlib"):
        try:
            module = __import__(name)
        except ImportError:
            continue
        return str(module.sha256(data).hexdigest())
    raise RuntimeError("this Python has no sha256")


def frame(nonce: str, body: bytes) -> bytes:
    """The body between markers that no start-up noise of a login shell can fake."""
    head = f"\nFLEETAUDIT-BEGIN {nonce} {len(body)} {sha256(body)}\n"
    return head.encode("ascii") + body + (f"\nFLEETAUDIT-END {nonce}\n").encode("ascii")


def crash_report(error: BaseException) -> "dict[str, object]":
    """What went wrong and where in this file."""
    trace, where = error.__traceback__, ""
    while trace is not None:
        where = f"agent.py:{trace.tb_lineno}"
        trace = trace.tb_next
    message = f"{type(error).__name__}: {error}"
    return {"schema": ERROR_SCHEMA, "error": text(message.encode("utf-8", "replace"), 500), "where": where}


def restrain(config: Config) -> None:
    """Give way to the host's own work, and make sure of an end. Best effort: a refusal changes nothing."""
    try:
        posix.nice(10)
    except OSError:
        pass
    try:
        resource = __import__("resource")
        limit = config.budget_mib << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    except (ImportError, OSError, ValueError):
        pass
    # Blocked in the kernel for good, for one in a file system that hangs: the alarm ends it without a word.
    signal = __import__("_signal")
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(int(config.budget_seconds * 4) + 30)


def send(data: bytes) -> None:
    """All of it to stdout."""
    view = memoryview(data)
    while view:
        try:
            view = view[posix.write(1, view) :]
        except BlockingIOError:
            time.sleep(0.01)


def main() -> None:
    """One census, one frame."""
    config = Config(globals().get("FLEETAUDIT", {}))
    restrain(config)
    try:
        body = compose(take_census("/proc", config), config.max_output)
    except Exception as error:  # the border: a crash is reported as one, in a frame
        body = encode(crash_report(error)).encode("ascii")
    send(frame(config.nonce, body))


if __name__ == "__main__":
    main()
