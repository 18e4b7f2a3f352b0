"""Looks at files of this machine and prepares them: what an engine has left there, with owners and modes.

Where the machine's root is mounted private, the folders of a run are mounts of their own that are shared."""

import contextlib
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import tempfile
import threading

KINDS = {stat.S_IFSOCK: "socket", stat.S_IFLNK: "link", stat.S_IFIFO: "fifo", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
LONGEST_CONTENT = 40


def look(path):
    """What is at a path of the machine, in one line: mode, owner, kind, content."""
    path = pathlib.Path(path)
    try:
        state = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return "nothing"
    owner = f"{stat.S_IMODE(state.st_mode):04o} {state.st_uid}:{state.st_gid}"
    if stat.S_ISDIR(state.st_mode):
        return f"{owner} folder"
    if stat.S_ISLNK(state.st_mode):
        return f"{owner} link to {os.readlink(path)}"
    if stat.S_ISREG(state.st_mode):
        with path.open(errors="replace") as file:
            content = file.read(LONGEST_CONTENT).replace("\0", "")
        return f"{owner} file: {content.strip()}"
    return f"{owner} {KINDS[stat.S_IFMT(state.st_mode)]}"


def tree(folder):
    """What is at and below a folder of the machine, path to line."""
    folder = pathlib.Path(folder)
    found = {".": look(folder)}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        found[str(path.relative_to(folder))] = look(path)
    return found


def write(path, text="", mode=0o644, owner=0):
    """Writes a file and the folders above it, whatever the umask is."""
    path = pathlib.Path(path)
    make(path.parent)
    path.write_text(text)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def make(path, mode=0o755, owner=0):
    """Makes a folder and those above it, whatever the umask is."""
    path = pathlib.Path(path)
    if not path.is_dir():
        make(path.parent)
        path.mkdir()
        path.chmod(mode)
        os.chown(path, owner, owner)
    return path


def copy(source, target):
    """Copies a project's folder with modes that do not depend on how it was checked out."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("expected.json"), dirs_exist_ok=True)
    for path in [target, *target.rglob("*")]:
        executable = path.is_dir() or path.stat().st_mode & 0o100
        path.chmod(0o755 if executable else 0o644)
        os.chown(path, 0, 0)


def mount(*words):
    """Runs mount with these words."""
    subprocess.run(["mount", *map(str, words)], check=True, capture_output=True)


def unmount(path):
    """Ends all mounts at a path, also those that are in use."""
    while subprocess.run(["umount", "-l", str(path)], capture_output=True).returncode == 0:
        pass


def root_is_shared():
    """Whether what is mounted on this machine reaches the containers of an engine that asks for it."""
    rows = (line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines())
    return any(row[4] == "/" and any(word.startswith("shared:") for word in row[6 : row.index("-")]) for row in rows)


@contextlib.contextmanager
def folder():
    """A folder of the machine that every user may enter, gone at the end with all that is mounted below."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="d2k-binds-")).resolve()
    path.chmod(0o755)
    if not root_is_shared():
        mount("--bind", path, path)
        mount("--make-shared", path)
    try:
        yield path
    finally:
        rows = [line.split()[4] for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
        for place in sorted((row for row in rows if row.startswith(f"{path}")), key=len, reverse=True):
            unmount(place)
        shutil.rmtree(path, ignore_errors=True)


class Listener:
    """A server of this machine on a unix socket: answers each client, or keeps the datagrams it is sent."""

    def __init__(self, path, kind=socket.SOCK_DGRAM, answer=b""):
        self.heard, self.answer = [], answer
        self.socket = socket.socket(socket.AF_UNIX, kind)
        self.socket.bind(str(path))
        os.chmod(path, 0o666)
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        work = self.keep if kind == socket.SOCK_DGRAM else self.serve
        threading.Thread(target=work, daemon=True).start()

    def keep(self):
        with contextlib.suppress(OSError):
            while data := self.socket.recv(4096):
                self.heard.append(data.decode(errors="replace"))

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.socket.accept()
                with client:
                    self.heard.append(client.recv(4096).decode(errors="replace"))
                    client.sendall(self.answer)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
