"""Places in the container that people bind to: files and folders of the image, relative, the root, one place twice, one below another."""

import tarfile

from . import machine
from .suites import case

GROUP = "targets"
NGINX = "/usr/share/nginx/html"


@case(GROUP, "a file onto a folder of the image, a folder onto a file of the image")
def _(engine, folder):
    machine.write(folder / "file", "content\n")
    machine.make(folder / "dir")
    seen = {"file onto folder": engine.once("-v", f"{folder}/file:/etc")}
    seen["folder onto file"] = engine.once("-v", f"{folder}/dir:/bin/busybox")
    seen["missing onto file"] = engine.once("-v", f"{folder}/missing:/etc/passwd")
    seen["file onto folder by --mount"] = engine.once("--mount", f"type=bind,source={folder}/file,target=/tmp")
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "a container that failed so is repaired")
def _(engine, folder):
    machine.make(folder / "settings")
    name = engine.name()
    engine.docker("create", "--name", name, "-v", f"{folder}/settings:/etc/passwd", "busybox", "cat", "/etc/passwd")
    seen = {"start": engine.docker("start", "-a", name).seen(), "container": engine.state(name)}
    (folder / "settings").rmdir()
    machine.write(folder / "settings", "repaired\n")
    return seen | {"start again": engine.docker("start", "-a", name).seen(), "container at last": engine.state(name)}


@case(GROUP, "a folder over a folder of the image that is not empty")
def _(engine, folder):
    machine.make(folder / "empty")
    seen = {"run": engine.once("-v", f"{folder}/empty:{NGINX}", script=f"ls -a {NGINX}", image="nginx")}
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "a file beside files of the image")
def _(engine, folder):
    machine.write(folder / "file", "content\n", 0o640)
    seen = {"new": engine.once("-v", f"{folder}/file:/etc/new", script="cat /etc/new; test -e /etc/passwd && echo passwd")}
    seen["onto one"] = engine.once(
        "-v", f"{folder}/file:/etc/passwd", script="cat /etc/passwd; echo more >> /etc/passwd; stat -c %a /etc/passwd"
    )
    seen["in new folders"] = engine.once("-v", f"{folder}/file:/a/b/c", script="cat /a/b/c; stat -c '%a %u:%g' /a /a/b")
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "what is done to the place of a bound file")
def _(engine, folder):
    machine.write(folder / "file", "one two\n")
    script = (
        "sed -i s/one/three/ /x/file 2>&1 | sed 's/file....../file/'; "
        "mv /x/file /x/other; rm /x/file; echo in place > /x/file && cat /x/file; ln /x/file /x/hard; chmod 600 /x/file"
    )
    return {"run": engine.once("-v", f"{folder}/file:/x/file", script=script), "machine": machine.tree(folder)}


@case(GROUP, "relative, the root, with dots")
def _(engine, folder):
    seen = {}
    for target in ("rel", "./rel", "../x", "/", "//", "/.", "/..", ".", "/x/../y", "/x/", "/x//y", "/ blank", ""):
        seen[f"-v {target}"] = engine.once("-v", f"{folder}:{target}", script="test -d /y -o -d /x && ls -d /x /y; ls -d '/ blank'; true")
    for target in ("rel", "/", "/x/../y", ""):
        seen[f"--mount {target}"] = engine.once("--mount", f"type=bind,source={folder},target={target}")
    return seen


@case(GROUP, "two mounts at one place")
def _(engine, folder):
    machine.write(folder / "one/file", "one\n")
    machine.write(folder / "two/file", "two\n")
    one, two = f"{folder}/one:/x", f"{folder}/two:/x"
    mounts = [f"type=bind,source={folder}/{name},target=/x" for name in ("one", "two")]
    seen = {
        "v v": engine.once("-v", one, "-v", two, script="cat /x/file"),
        "v twice": engine.once("-v", one, "-v", one, script="cat /x/file"),
    }
    seen["v v/"] = engine.once("-v", one, "-v", f"{two}/", script="cat /x/file")
    seen["mount mount"] = engine.once("--mount", mounts[0], "--mount", mounts[1], script="cat /x/file")
    seen["v mount"] = engine.once("-v", one, "--mount", mounts[1], script="cat /x/file")
    seen["v tmpfs"] = engine.once("-v", one, "--tmpfs", "/x", script="cat /x/file")
    seen["v volume"] = engine.once("-v", one, "-v", f"{engine.name()}:/x", script="cat /x/file")
    return seen | {"v anonymous": engine.once("-v", one, "-v", "/x", script="cat /x/file")}


@case(GROUP, "one below another, in any order")
def _(engine, folder):
    machine.write(folder / "outer/file", "outer\n")
    machine.write(folder / "inner/file", "inner\n")
    script = "cat /x/file /x/a/b/file; touch /x/made /x/a/b/made; ls /x /x/a"
    inner, outer = ["-v", f"{folder}/inner:/x/a/b"], ["-v", f"{folder}/outer:/x"]
    seen = {"run": engine.once(*inner, *outer, script=script), "machine": machine.tree(folder)}
    return seen | {"a place made below": engine.once(*outer, *inner, script=script)}


@case(GROUP, "below a read-only one")
def _(engine, folder):
    machine.make(folder / "outer/there")
    machine.write(folder / "inner/file", "inner\n")
    outer = ["-v", f"{folder}/outer:/x:ro"]
    script = "touch /x/made; ls /x; touch /x/there/made && ls /x/there"
    seen = {"the place is there": engine.once(*outer, "-v", f"{folder}/inner:/x/there", script=script)}
    seen["the place is missing"] = engine.once(*outer, "-v", f"{folder}/inner:/x/missing", script=script)
    seen["the place of a file is missing"] = engine.once(*outer, "-v", f"{folder}/inner/file:/x/missing", script=script)
    seen["a volume"] = engine.once(*outer, "-v", "/x/there", script=script)
    seen["tmpfs"] = engine.once(*outer, "--tmpfs", "/x/there", script=script)
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "in a volume, and over a folder that a volume has")
def _(engine, folder):
    machine.write(folder / "file", "content\n")
    volume = engine.name()
    seen = {
        "below a volume": engine.once(
            "-v", f"{volume}:/data", "-v", f"{folder}:/data/bound", script="cat /data/bound/file; touch /data/bound/made /data/kept"
        )
    }
    seen["the volume alone"] = engine.once("-v", f"{volume}:/data", script="ls /data /data/bound")
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "files and folders that the engine makes itself")
def _(engine, folder):
    machine.write(folder / "file", "10.9.8.7 mine\n")
    files = {
        path: engine.once("-v", f"{folder}/file:{path}", script=f"cat {path}")
        for path in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname")
    }
    seen = {}
    for path in ("/proc", "/sys", "/dev", "/dev/shm", "/dev/pts", "/proc/x", "/proc/version", "/sys/fs/cgroup", "/run", "/tmp"):
        source = machine.make(folder / f"for{path.replace('/', '-')}")
        seen[path] = engine.once("-v", f"{source}:{path}", script=f"touch {path}/made && ls {path} | grep made; true")
    seen["shm of the machine"] = engine.once("-v", "/dev/shm:/dev/shm:ro", script="touch /dev/shm/d2k-x")
    return files | seen | {"machine": machine.tree(folder)}


@case(GROUP, "through a link of the image")
def _(engine, folder):
    image = f"local/{engine.name()}"
    machine.write(folder / "source/file", "content\n")
    made, _ = engine.running()
    engine.docker("export", "-o", folder / "image.tar", made)
    with tarfile.open(folder / "image.tar", "a") as archive:
        for name, target in {"link": "/real", "broken": "/nowhere", "out": "../../../etc", "circle": "circle"}.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            archive.addfile(entry)
        entry = tarfile.TarInfo("real")
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(entry)
    seen = {"import": engine.docker("import", "--change", "ENV PATH=/bin", folder / "image.tar", image).code}
    for target in ("/link", "/link/below", "/broken", "/out/bound", "/circle"):
        script = f"cat {target}/file; readlink /link; readlink /broken; ls -d /real/* /etc/bound; true"
        seen[target] = engine.once("-v", f"{folder}/source:{target}", image=image, script=script)
    engine.docker("rmi", "-f", image)
    return seen | {"machine": machine.tree(folder / "source")}


@case(GROUP, "many mounts")
def _(engine, folder):
    options = []
    for number in range(60):
        machine.write(folder / f"{number}/file", f"{number}\n")
        options += ["-v", f"{folder}/{number}:/many/{number}{':ro' if number % 2 else ''}"]
    return {
        "run": engine.once(
            *options, script="cat /many/*/file | wc -l; for d in /many/*; do touch $d/made 2>/dev/null; done; ls /many/*/made | wc -l"
        )
    }
