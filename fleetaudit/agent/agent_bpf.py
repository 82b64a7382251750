"""The agent's accelerator: the kernel itself lists the descriptors of every task (BPF iterator, Linux 5.8).

`--agent-mode bpf` puts this behind agent.py, before its call of main(), without the import of the agent's
names. The iterator names process, thread, descriptor and inode of every socket, of files without a name, as
io_urings are, and of every namespace that is held open. All that is read of these, and whether they are still
there, comes through the pinned directory in /proc as in the walk. So a wrong answer of the iterator can hide
an owner and never invent one. So it is not trusted until it has found descriptors of our own, in each pass.

The offsets in kernel structures come from BTF (Documentation/bpf/btf.rst). For Python 3.6 and later.
"""

import _socket
import errno
import posix
import sys
from _struct import pack, unpack_from

from fleetaudit.agent.agent import (
    BROKEN,
    INITIAL_PID_NAMESPACE,
    RING,
    WALKS,
    Budget,
    Coverage,
    Describer,
    Walk,
    is_initial,
)

BTF_FILE = "/sys/kernel/btf/vmlinux"
BTF_LIMIT = 64 << 20  # bytes
BTF_MAGIC = 0xEB9F
# Numbers of bpf(2): asm/unistd.h by machine.
BPF_CALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "loongarch64": 280, "s390x": 351, "ppc64le": 361}
PROG_LOAD, LINK_CREATE, ITER_CREATE = 5, 28, 33  # enum bpf_cmd, linux/bpf.h
TRACING, TRACE_ITER = 26, 28  # enum bpf_prog_type, enum bpf_attach_type
SEQ_WRITE = 127  # a helper, linux/bpf.h
# struct bpf_iter__task_file of kernel/bpf/task_iter.c, each member in eight bytes; struct bpf_iter_meta.
META, TASK, FD, FILE, SEQ = 0, 8, 16, 24, 0
LOG_BYTES = 1 << 16
WORTH_IT = 16  # processes; fewer are looked into one by one
CHUNK = 1 << 18
ROW = 32  # bytes that the program writes of each descriptor
SOCKET_MODE, TYPE_MASK = 0o140000, 0o170000
ANON_INODE_MAGIC, NSFS_MAGIC = 0x09041934, 0x6E736673  # linux/magic.h: io_uring and others; namespaces

BTF_STRUCT, BTF_FUNC, BTF_FUNC_PROTO = 4, 12, 13
# Bytes behind the head of a type, by kind: for each of its members, and once. docs: btf.rst, 2.2.
BTF_EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
BTF_ONCE = {1: 4, 3: 12, 14: 4, 17: 4}


class Refused(Exception):
    """Why the iterator cannot be used here; its `code` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


# ---------------------------------------------------------------- BTF (bytes to values, no I/O)


def step(info: int) -> int:
    """How many words of four bytes a type takes, by the word with its kind and its number of members."""
    kind = info >> 24 & 31
    return 3 + (BTF_ONCE.get(kind, 0) + BTF_EACH.get(kind, 0) * (info & 0xFFFF)) // 4


class Btf:
    """Where the members of kernel structures are. Raises Refused for what is no BTF."""

    def __init__(self, data: bytes) -> None:
        if data[:3] != pack("=HB", BTF_MAGIC, 1) or len(data) < 24:
            raise Refused("bpf_no_btf", BTF_FILE + " is no BTF of version 1")
        head, start, size, words, length = unpack_from("=IIIII", data, 4)
        if max(head + start + size, head + words + length) > len(data):
            raise Refused("bpf_no_btf", BTF_FILE + " is cut short")
        self.data = data[head + start : head + start + size // 4 * 4]
        self.types = memoryview(self.data).cast("I")
        self.words = data[head + words : head + words + length]

    def _word(self, name: str) -> int:
        """Where a name stands among the strings; 0, which is the empty one, if it does not."""
        return self.words.find(b"\0" + name.encode() + b"\0") + 1

    def _next(self, word: int, kind: int, place: int = -1) -> int:
        """Where the next type of that name and kind may stand, in words of four bytes; -1: nowhere."""
        sought, at = pack("=I", word), self.data.find(pack("=I", word), 4 * place + 4) if word else -1
        while at >= 0:
            if not at % 4 and at // 4 + 2 < len(self.types) and self.types[at // 4 + 1] >> 24 & 31 == kind:
                return at // 4
            at = self.data.find(sought, at + 1)
        return -1

    def offset(self, structure: str, member: str) -> int:
        """Of a member in bytes. Raises Refused."""
        name, word = self._word(structure), self._word(member)
        place = self._next(name, BTF_STRUCT)
        while place >= 0 and word:
            info = self.types[place + 1]
            for at in range(place + 3, min(place + 3 + 3 * (info & 0xFFFF), len(self.types) - 2), 3):
                if self.types[at] == word:
                    where = self.types[at + 2]
                    return (where & 0xFFFFFF if info >> 31 else where) // 8
            place = self._next(name, BTF_STRUCT, place)
        raise Refused("bpf_no_btf", f"this kernel's BTF has no {structure}.{member}")

    def likely_number(self, function: str) -> int:
        """Of a function's type, if it stands behind its prototype, which its last word names; else 0."""
        place = self._next(self._word(function), BTF_FUNC)
        before = place - 3 - 2 * 4  # bpf_iter_task_file has four parameters
        if before >= 0 and self.types[before + 1] == BTF_FUNC_PROTO << 24 | 4:
            return self.types[place + 2] + 1
        return 0

    def number(self, function: str) -> int:
        """Of a function's type, by counting all before it. Raises Refused."""
        word, types, place, number, steps = self._word(function), self.types, 0, 1, {0: 3}
        try:
            while word:
                info = types[place + 1]
                if types[place] == word and info >> 24 & 31 == BTF_FUNC:
                    return number
                if info not in steps:
                    steps[info] = step(info)
                place += steps[info]
                number += 1
        except IndexError:
            pass
        raise Refused("bpf_no_iterator", f"this kernel's BTF has no {function}")


# ---------------------------------------------------------------- the program (no I/O)


class Assembly:
    """Instructions of BPF with jumps to labels: Documentation/bpf/standardization/instruction-set.rst."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, int, int, int]] = []
        self.jumps: list[tuple[int, str]] = []
        self.labels: dict[str, int] = {}

    def put(self, code: int, to: int, of: int = 0, offset: int = 0, value: int = 0) -> None:
        """One instruction: opcode, destination and source register, offset, immediate."""
        self.code.append((code, to, of, offset, value))

    def jump(self, label: str, code: int = 0x05, to: int = 0, of: int = 0, value: int = 0) -> None:
        """A jump, always or on a condition."""
        self.jumps.append((len(self.code), label))
        self.put(code, to, of, 0, value)

    def label(self, name: str) -> None:
        """Where jumps to this name lead."""
        self.labels[name] = len(self.code)

    def bytes(self) -> bytes:
        """The program."""
        for at, label in self.jumps:
            code, to, of, _, value = self.code[at]
            self.code[at] = (code, to, of, self.labels[label] - at - 1, value)
        little = sys.byteorder == "little"
        return b"".join(
            pack("=BBhi", code, of << 4 | to if little else to << 4 | of, offset, value)
            for code, to, of, offset, value in self.code
        )


def program(btf: Btf) -> bytes:
    """Writes inode, operations, process, thread and descriptor of what is to be looked at."""
    half, word, double = 0x69, 0x61, 0x79  # loads of 2, 4 and 8 bytes
    number = btf.offset("inode", "i_ino")
    it = Assembly()
    it.put(0xBF, 6, 1)
    it.put(double, 7, 6, TASK)
    it.jump("end", 0x15, 7)
    it.put(double, 8, 6, FILE)
    it.jump("end", 0x15, 8)
    it.put(double, 9, 8, btf.offset("file", "f_inode"))
    it.jump("end", 0x15, 9)
    it.put(0x62, 10, 0, -12)
    it.put(half, 1, 9, btf.offset("inode", "i_mode"))
    it.put(0x57, 1, 0, 0, TYPE_MASK)
    it.jump("emit", 0x15, 1, value=SOCKET_MODE)
    it.put(0x62, 10, 0, -12, 1)  # no socket
    it.put(double, 1, 9, btf.offset("inode", "i_sb"))
    it.jump("end", 0x15, 1)
    it.put(double, 1, 1, btf.offset("super_block", "s_magic"))
    it.jump("emit", 0x15, 1, value=ANON_INODE_MAGIC)
    it.jump("end", 0x55, 1, value=NSFS_MAGIC)
    it.label("emit")
    it.put(double, 1, 9, number)
    it.put(0x7B, 10, 1, -40)
    it.put(double, 1, 8, btf.offset("file", "f_op"))
    it.put(0x7B, 10, 1, -32)
    task = ((-24, 7, btf.offset("task_struct", "tgid")), (-20, 7, btf.offset("task_struct", "pid")))
    for place, source, offset in (*task, (-16, 6, FD)):
        it.put(word, 1, source, offset)
        it.put(0x63, 10, 1, place)
    it.put(double, 1, 6, META)
    it.put(double, 1, 1, SEQ)
    it.put(0xBF, 2, 10)
    it.put(0x07, 2, 0, 0, -40)
    it.put(0xB7, 3, 0, 0, ROW)
    it.put(0x85, 0, 0, 0, SEQ_WRITE)
    it.label("end")
    it.put(0xB7, 0)
    it.put(0x95, 0)
    return it.bytes()


# ---------------------------------------------------------------- the kernel's list


class Rows:
    """What the program wrote, by column. There may be 100,000: no loop in Python."""

    def __init__(self, data: bytes) -> None:
        whole = len(data) // ROW * ROW
        if whole < len(data):
            raise ValueError("half a row")
        self.data = data
        long, short = memoryview(data).cast("Q"), memoryview(data).cast("I")
        self.inodes, self.operations = long[0::4].tolist(), long[1::4].tolist()
        self.pids, self.tids, self.fds, self.others = (short[place::8].tolist() for place in (4, 5, 6, 7))

    def links(self) -> "list[str]":
        """What each descriptor reads as, if it is a socket's."""
        return ("socket:[" + "]\nsocket:[".join(map(str, self.inodes)) + "]").split("\n")


class Iterator:
    """Descriptors of all tasks that are to be looked at, as often as asked. Raises Refused."""

    def __init__(self, proc: str) -> None:
        if not is_initial(proc, "pid", INITIAL_PID_NAMESPACE):
            raise Refused("bpf_pid_namespace", "its process numbers are those of the first pid namespace")
        self.ctypes = __import__("ctypes")
        self.call_number = BPF_CALLS.get(posix.uname()[4])
        if self.call_number is None:
            raise Refused("bpf_refused", f"bpf(2) has no number known here on {posix.uname()[4]}")
        self.libc = self.ctypes.CDLL(None, use_errno=True)
        btf = Btf(read_btf())
        self.pid = posix.getpid()
        self.polled = 0  # the operations of epoll files, once they are known
        loaded = self._load_for(btf, "bpf_iter_task_file")
        try:
            self.link = self._attach(loaded, b"")
            try:
                # Linux 6.1: of one process only, struct bpf_iter_link_info.
                self.own_link = self._attach(loaded, pack("=IIII", 0, self.pid, 0, 0))
            except Refused:
                self.own_link = self._attach(loaded, b"")
        finally:
            posix.close(loaded)
        self.poll = __import__("select").epoll()
        self.space = posix.open(proc + "/self/ns/net", posix.O_RDONLY | posix.O_CLOEXEC)
        self.witness = socket_of_unix().detach()
        try:
            self._be_seen()
        except Refused:
            self.close()
            raise

    def close(self) -> None:
        """Detach the program, which ends it."""
        for handle in (self.link, self.own_link, self.space, self.witness):
            posix.close(handle)
        self.poll.close()

    def _be_seen(self) -> None:
        """Check it against a listener of our own, which nobody else ever sees."""
        listener = socket_of_unix()
        try:
            listener.bind("")  # a name of the kernel's choice, gone with the socket: unix(7)
            listener.listen(1)
            self._check(self._rows(self.own_link), listener.fileno())
        except OSError as error:
            raise Refused("bpf_refused", f"it could not be tried: {error.strerror}") from None
        finally:
            listener.close()

    def rows(self) -> "Rows":
        """What is to be looked at. Raises Refused."""
        try:
            found = self._rows(self.link)
        except OSError as error:
            raise Refused("bpf_refused", f"its list ended early: {error.strerror}") from None
        self._check(found, self.witness)
        return found

    def _check(self, found: "Rows", socket: int) -> None:
        ours = {
            found.fds[index]: (found.inodes[index], found.tids[index], found.others[index], index)
            for index in [index for index, pid in enumerate(found.pids) if pid == self.pid]
        }
        for fd, other in ((socket, 0), (self.space, 1), (self.poll.fileno(), 1)):
            if ours.get(fd, ())[:3] != (posix.fstat(fd).st_ino, self.pid, other):
                raise Refused("bpf_untrue", "it does not list descriptors that are our own as they are")
        self.polled = found.operations[ours[self.poll.fileno()][3]]

    def _rows(self, link: int) -> "Rows":
        handle = self._bpf(ITER_CREATE, pack("=II", link, 0))
        try:
            pieces: list[bytes] = []
            while True:
                piece = posix.read(handle, CHUNK)
                if not piece:
                    return Rows(b"".join(pieces))
                pieces.append(piece)
        except ValueError:
            raise OSError(errno.EIO, "half a row") from None
        finally:
            posix.close(handle)

    def _attach(self, loaded: int, only: bytes) -> int:
        buffer = self.ctypes.create_string_buffer(only, max(len(only), 1))
        address = self.ctypes.addressof(buffer) if only else 0
        return self._bpf(LINK_CREATE, pack("=IIIIQQ", loaded, 0, TRACE_ITER, 0, address, len(only)))

    def _load_for(self, btf: Btf, function: str) -> int:
        code, likely = program(btf), btf.likely_number(function)
        if likely:
            try:
                return self._load(code, likely)
            except Refused:
                pass  # the whole way tells why
        return self._load(code, btf.number(function))

    def _load(self, code: bytes, target: int) -> int:
        program, licence, log = (self.ctypes.create_string_buffer(size) for size in (code, b"GPL", LOG_BYTES))
        address = self.ctypes.addressof
        head = pack("=IIQQ", TRACING, len(code) // 8, address(program), address(licence))
        rest = pack(
            "=II16sIIIIQIIQIIII", 0, 0, b"fleetaudit", 0, TRACE_ITER, 0, 0, 0, 0, 0, 0, 0, target, 0, 0
        )
        try:
            return self._bpf(PROG_LOAD, head + pack("=IIQ", 0, 0, 0) + rest)
        except Refused as refused:
            try:
                return self._bpf(PROG_LOAD, head + pack("=IIQ", 1, LOG_BYTES, address(log)) + rest)
            except Refused:
                said = [line for line in log.value.decode("ascii", "replace").splitlines() if line.strip()]
                words = [line for line in said if not line.startswith(("processed", "verification"))]
                raise Refused(
                    refused.code, f"{refused}; {words[-1][:200]}" if words else str(refused)
                ) from None

    def _bpf(self, command: int, attributes: bytes) -> int:
        buffer = self.ctypes.create_string_buffer(attributes, len(attributes))
        result = int(self.libc.syscall(self.call_number, command, buffer, len(attributes)))
        if result < 0:
            what = {PROG_LOAD: "loading the program", LINK_CREATE: "attaching it"}.get(command, "starting it")
            raise Refused("bpf_refused", f"{what}: {posix.strerror(self.ctypes.get_errno())}")
        return result


def socket_of_unix() -> _socket.socket:
    """One that nobody is told of."""
    return _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)


def read_btf() -> bytes:
    """All of the kernel's own BTF. Raises Refused."""
    try:
        handle = posix.open(BTF_FILE, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise Refused("bpf_no_btf", f"{BTF_FILE}: {error.strerror}") from None
    try:
        pieces: list[bytes] = []
        for _ in range(BTF_LIMIT >> 12):  # sysfs gives a page or more at a time
            pieces.append(posix.read(handle, 1 << 20))
            if not pieces[-1]:
                return b"".join(pieces)
        raise Refused("bpf_no_btf", f"{BTF_FILE} is larger than {BTF_LIMIT >> 20} MiB")
    except OSError as error:
        raise Refused("bpf_no_btf", f"{BTF_FILE}: {error.strerror}") from None
    finally:
        posix.close(handle)


# ---------------------------------------------------------------- the walk by the list


class IteratedWalk(Walk):
    """The walk, which reads of most processes only the descriptors that the kernel's list names."""

    def __init__(self, proc: str, coverage: Coverage, describer: Describer, budget: Budget) -> None:
        super().__init__(proc, coverage, describer, budget)
        self.named: dict[str, dict[str, list[str]]] | None = None  # descriptors by thread by process
        self.iterator: Iterator | None = None
        try:
            self.iterator = Iterator(proc)
            self.mode = "bpf"
        except Refused as refused:
            self._give_up(refused)
        except (ImportError, AttributeError, *BROKEN) as error:
            self._give_up(Refused("bpf_refused", f"{type(error).__name__}: {error}"))

    def _give_up(self, refused: Refused) -> None:
        if self.iterator is not None:
            self.iterator.close()
        self.iterator = None
        self.mode = "walk"
        self.coverage.reduced.append({"code": refused.code, "detail": f"bpf was not used: {refused}"})

    def visit(self, pids: "list[str]", want: "set[str]") -> None:
        """See `Walk.visit`."""
        self.named = None
        if self.iterator is not None and len(pids) >= WORTH_IT:
            try:
                self.named = self._names(self.iterator, want | {RING} | self.may_queue)
            except Refused as refused:
                self._give_up(refused)
        super().visit(pids, want)

    def _names(self, iterator: Iterator, wide: "set[str]") -> "dict[str, dict[str, list[str]]]":
        """The descriptors to look at: those that are wanted, and those that no list has named yet."""
        found: dict[str, dict[str, list[str]]] = {}
        passed_over = self.strangers.listed - wide
        passed_over.add(f"socket:[{posix.fstat(iterator.witness).st_ino}]")
        rows = iterator.rows()
        others, operations, polled = rows.others, rows.operations, iterator.polled
        for index, link in enumerate(rows.links()):
            if operations[index] == polled if others[index] else link in passed_over:
                continue
            threads = found.setdefault(str(rows.pids[index]), {})
            threads.setdefault(str(rows.tids[index]), []).append(str(rows.fds[index]))
        return found

    def _visit(self, pid: str, want: "set[str]", wide: "set[str]") -> None:
        if self.named is None:
            super()._visit(pid, want, wide)
            return
        self.coverage.seen.add(pid)
        tables = self.named.get(pid)
        if tables is None:
            return
        try:
            posix.chdir(f"{self.proc}/{pid}/fd")
            hits = [(link, name, "") for link, name in self._links(pid, "", tables.pop(pid, []), wide)]
            before = [pid]
            for thread, names in tables.items():
                if not any(self.tables.same(other, thread) for other in before):
                    before = [pid, thread]
                    prefix = f"../task/{thread}/fd/"
                    hits += [(link, name, thread) for link, name in self._links(pid, prefix, names, wide)]
            if hits:
                self._record(pid, hits, want)
        except OSError as error:
            self.coverage.seen.discard(pid)
            self.coverage.missed(pid, error)


WALKS.append(IteratedWalk)
