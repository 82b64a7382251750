"""Kernel calls that turn a process of this machine into a host of its own.

Flags and structures are those of <sched.h>, <sys/mount.h>, <sys/prctl.h> and <linux/if.h>; the rules are in
namespaces(7), user_namespaces(7), pid_namespaces(7), mount_namespaces(7), pivot_root(2) and netdevice(7).
Every function raises OSError (with the call's name as its file name) when the kernel refuses.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUTS = 0x04000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MS_BIND, _MS_REC, _MS_PRIVATE = 4096, 16384, 1 << 18
_MNT_DETACH = 2

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_INTERFACE_REQUEST = struct.Struct("16sH22x")

HOME = "/run/demo"  # where a host finds its own files: the same path on every host
_REPLACED = frozenset({"proc", "run"})


def _call(name: str, *arguments: object) -> None:
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except AttributeError:
        raise OSError(38, "this C library lacks the call", name) from None
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)


def leave_outside(*, user_namespace: bool) -> None:
    """Enter new network, uts and mount namespaces; the next child is pid 1 of a new pid namespace.

    With `user_namespace`, the caller's uid becomes root of a new user namespace, which needs no privilege.
    The caller must have one thread only, and can start none afterwards: the kernel refuses CLONE_THREAD once
    children are bound for another pid namespace (kernel/fork.c, copy_process).
    """
    uid, gid = os.geteuid(), os.getegid()
    flags = _CLONE_NEWNET | _CLONE_NEWUTS | _CLONE_NEWNS | _CLONE_NEWPID
    _call("unshare", ctypes.c_int(flags | (_CLONE_NEWUSER if user_namespace else 0)))
    if user_namespace:
        # Without privilege a gid may be mapped only once setgroups is given up (user_namespaces(7)).
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"0 {uid} 1")
        _write("/proc/self/gid_map", f"0 {gid} 1")


def become_host(name: str, root: Path, home: Path, covered: Iterable[str]) -> None:
    """As pid 1 of the new pid namespace: take the name, bring lo up, build the host's own root directory.

    `root` is an empty directory to build on, `home` the host's files, shown inside as `HOME`. Each file of
    `home` named in `covered` covers /etc/NAME inside, where /etc/NAME exists.
    """
    socket.sethostname(name)
    _raise_loopback()
    _build_root(root, home, covered)
    _enter_root(root)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = _INTERFACE_REQUEST.pack(b"lo", 0)
        _, flags = _INTERFACE_REQUEST.unpack(fcntl.ioctl(control, _SIOCGIFFLAGS, request))
        fcntl.ioctl(control, _SIOCSIFFLAGS, _INTERFACE_REQUEST.pack(b"lo", flags | _IFF_UP))


def _build_root(root: Path, home: Path, covered: Iterable[str]) -> None:
    """A root of bind mounts that shows this machine's files, but an own /proc and an empty /run.

    A new root rather than mounts over the old one: /run holds bind mounts of other network namespaces
    (ip netns, containers), which would stay in mountinfo, and in a user namespace cannot be unmounted.
    """
    _mount("none", "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755")
    for entry in os.scandir("/"):
        if entry.name not in _REPLACED:
            # A dead network mount must not cost the demo; what is needed and missing fails later.
            with contextlib.suppress(OSError):
                _show(entry, root / entry.name)
    (root / "proc").mkdir()
    # Before the old root goes: in a user namespace a new proc needs a fully visible one (fs/namespace.c,
    # mount_too_revealing).
    _mount("proc", root / "proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    inside = root / HOME.lstrip("/")
    inside.mkdir(parents=True)
    (root / "run/sshd").mkdir()  # sshd's empty directory for privilege separation on Debian
    _mount(home, inside, None, _MS_BIND)
    for name in covered:
        target = root / "etc" / name
        if target.exists():
            _mount(home / name, target, None, _MS_BIND)


def _show(entry: os.DirEntry[str], target: Path) -> None:
    if entry.is_symlink():
        target.symlink_to(Path(entry.path).readlink())
        return
    if entry.is_dir():
        target.mkdir()
    else:
        target.touch()
    _mount(entry.path, target, None, _MS_BIND | _MS_REC)


def _enter_root(root: Path) -> None:
    os.chdir(root)
    # With both paths "." the old root ends up on top of the new one, and is detached (pivot_root(2)).
    _call("pivot_root", b".", b".")
    _call("umount2", b".", ctypes.c_int(_MNT_DETACH))
    os.chdir("/")


def _write(path: str, text: str) -> None:
    try:
        Path(path).write_text(text, encoding="ascii")
    except OSError as error:  # one of write(2) names no file
        raise OSError(error.errno, error.strerror, path) from None


def _mount(source: str | Path, target: str | Path, kind: str | None, flags: int, options: str = "") -> None:
    try:
        _call(
            "mount",
            os.fsencode(source),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode() or None,
        )
    except OSError as error:
        raise OSError(error.errno, error.strerror, f"mount {kind or 'bind'} on {target}") from None
