"""What people do with containers that have binds: volumes-from, cp, rm, ps, diff, commit, and work on files from both sides at once."""

import os
import subprocess

from . import machine
from .engine import until
from .suites import case

GROUP = "uses"


@case(GROUP, "volumes-from a container with binds")
def _(engine, folder):
    machine.write(folder / "one/file", "one\n")
    machine.write(folder / "two/file", "two\n")
    giver = engine.name()
    created = engine.docker(
        "create", "--name", giver, "-v", f"{folder}/one:/one", "-v", f"{folder}/two:/two:ro,rprivate", "-v", "/volume", "busybox", "true"
    )
    seen, script = {"create": created.code}, "cat /one/file /two/file; touch /one/made /two/made /volume/made"
    for words in ("", ":ro", ":rw", ":z", ":foo"):
        name, ended = engine.running("--volumes-from", f"{giver}{words}")
        seen[f"from{words}"] = {
            "exit": ended.code,
            "says": ended.says(),
            "inside": engine.inside(name, script) if not ended.code else "",
            "told": engine.mounts(name),
        }
    other = engine.once("--volumes-from", giver, "-v", f"{folder}/two:/one", script="cat /one/file; cat /two/file")
    seen["its own bind at one of the places"] = other
    mounted = f"type=bind,source={folder}/giver,target=/three"
    machine.make(folder / "giver")
    giver = engine.name()
    engine.docker("create", "--name", giver, "--mount", f"{mounted},readonly", "busybox", "true")
    name, ended = engine.running("--volumes-from", giver)
    return seen | {"by --mount": {"exit": ended.code, "inside": engine.inside(name, "touch /three/made"), "told": engine.mounts(name)}}


@case(GROUP, "cp into and out of a bound folder")
def _(engine, folder):
    machine.write(folder / "source/deep/file", "of the machine\n", 0o640, 1000)
    machine.write(folder / "new", "new\n", 0o604, 1001)
    seen = {}
    for access in ("", ":ro"):
        name, _ = engine.running("-v", f"{folder}/source:/x{access}")
        into = engine.docker("cp", f"{folder}/new", f"{name}:/x/new")
        archive = engine.docker("cp", "-a", f"{folder}/new", f"{name}:/x/archived")
        out = engine.docker("cp", f"{name}:/x/deep", f"{folder}/out{access[1:]}")
        seen[f"running{access}"] = {
            "into": into.seen(),
            "into with its owner": archive.seen(),
            "out": out.seen(),
            "machine": machine.tree(folder),
        }
        engine.docker("kill", name)
        into = engine.docker("cp", f"{folder}/new", f"{name}:/x/when-stopped")
        out = engine.docker("cp", f"{name}:/x/deep/file", f"{folder}/out-stopped{access[1:]}")
        seen[f"stopped{access}"] = {"into": into.seen(), "out": out.seen(), "machine": machine.tree(folder)}
    return seen


@case(GROUP, "cp with a container that was never started")
def _(engine, folder):
    machine.write(folder / "source/file", "of the machine\n")
    machine.write(folder / "new", "new\n")
    name = engine.name()
    engine.docker("create", "--name", name, "-v", f"{folder}/source:/x", "-v", f"{folder}/missing:/y", "busybox", "sh", "-c", "cat /x/new")
    seen = {
        "into": engine.docker("cp", f"{folder}/new", f"{name}:/x/new").seen(),
        "out": engine.docker("cp", f"{name}:/x/file", f"{folder}/out").seen(),
    }
    return seen | {"start": engine.docker("start", "-a", name).seen(), "machine": machine.tree(folder)}


@case(GROUP, "cp onto a bound file")
def _(engine, folder):
    machine.write(folder / "settings", "old\n", 0o640)
    machine.write(folder / "new", "new\n")
    name, _ = engine.running("-v", f"{folder}/settings:/etc/settings")
    seen = {
        "into": engine.docker("cp", f"{folder}/new", f"{name}:/etc/settings").seen(),
        "inside": engine.inside(name, "cat /etc/settings"),
    }
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "rm -v leaves the folder")
def _(engine, folder):
    machine.write(folder / "source/file", "content\n")
    name, _ = engine.running("-v", f"{folder}/source:/x", "-v", f"{folder}/missing:/y")
    removed = engine.docker("rm", "-f", "-v", name)
    rest = engine.once("--rm", "-v", f"{folder}/source:/x", script="touch /x/made")
    return {"rm": removed.code, "run --rm": rest, "machine": machine.tree(folder), "container": engine.state(name)}


@case(GROUP, "ps --filter volume")
def _(engine, folder):
    machine.make(folder / "source/below")
    name, _ = engine.running("-v", f"{folder}/source:/x", "--label", f"of={engine.run}")
    seen = {}
    for value in (f"{folder}/source", f"{folder}/source/", "/x", f"{folder}/source/below", f"{folder}", "source", f"{folder}/./source"):
        listed = engine.docker("ps", "-a", "--filter", f"volume={value}", "--filter", f"label=of={engine.run}", "--format", "{{.Names}}")
        seen[value] = {"exit": listed.code, "found": listed.out.split() == [name]}
    told = engine.docker("ps", "--no-trunc", "--filter", f"name={name}", "--format", "{{.Mounts}} {{.LocalVolumes}}")
    status, rows = engine.ask("GET", f"/containers/json?filters=%7B%22name%22%3A%5B%22{name}%22%5D%7D")
    return seen | {"mounts": told.out.strip(), "status": status, "list": [row["Mounts"] for row in rows]}


@case(GROUP, "diff and export leave out what is bound")
def _(engine, folder):
    machine.write(folder / "source/file", "content\n")
    name, _ = engine.running("-v", f"{folder}/source:/x", "-v", f"{folder}/source/file:/etc/bound")
    engine.inside(name, "touch /x/made /own")
    seen = {"diff": sorted(engine.docker("diff", name).out.splitlines())}
    engine.docker("export", "-o", folder / "export.tar", name)
    names = subprocess.run(["tar", "-tf", folder / "export.tar"], capture_output=True, text=True).stdout.split("\n")
    return seen | {"export": sorted(word for word in names if word.startswith(("x", "own", "etc/bound")))}


@case(GROUP, "a file that is open stays when it is moved on the machine")
def _(engine, folder):
    machine.write(folder / "open", "first\n")
    name, _ = engine.running("-v", f"{folder}:/x")
    script = "exec 3>>/x/open; touch /x/ready; while [ ! -e /x/go ]; do sleep 0.1; done; echo second >&3; touch /x/done"
    engine.docker("exec", "-d", name, "sh", "-c", script)
    ready = until((folder / "ready").exists, 5)
    (folder / "open").rename(folder / "moved")
    machine.write(folder / "go")
    return {
        "ready": ready,
        "done": until((folder / "done").exists, 5),
        "moved": machine.look(folder / "moved"),
        "open": machine.look(folder / "open"),
    }


@case(GROUP, "two containers with one folder")
def _(engine, folder):
    machine.make(folder / "source")
    first, _ = engine.running("-v", f"{folder}/source:/x")
    second, _ = engine.running("-v", f"{folder}/source:/y:ro")
    written = engine.inside(first, "echo one > /x/file; mkdir /x/deep; mv /x/file /x/deep")
    seen = {"first": written, "second": engine.inside(second, "cat /y/deep/file; touch /y/made")}
    engine.docker("rm", "-f", first)
    return seen | {
        "second, after the first has gone": engine.inside(second, "cat /y/deep/file"),
        "machine": machine.tree(folder / "source"),
    }


@case(GROUP, "links, sparse files and attributes")
def _(engine, folder):
    name, _ = engine.running("-v", f"{folder}:/x")
    script = (
        "echo content > /x/file; ln /x/file /x/hard; ln -s file /x/soft; mkfifo /x/pipe; "
        "truncate -s 1G /x/sparse; touch -d '2001-02-03 04:05:06' /x/old; mknod /x/null c 1 3"
    )
    seen = {"inside": engine.inside(name, script)}
    state, old, sparse = (os.stat(folder / name) for name in ("file", "old", "sparse"))
    return seen | {
        "links": state.st_nlink,
        "sparse": [sparse.st_size, sparse.st_blocks],
        "old": int(old.st_mtime),
        "machine": machine.tree(folder),
    }


@case(GROUP, "the working folder is bound, and is missing")
def _(engine, folder):
    machine.write(folder / "source/run", "#!/bin/sh\npwd; ls\n", 0o755)
    seen = {"bound": engine.once("-w", "/x", "-v", f"{folder}/source:/x", script="./run")}
    seen["below it"] = engine.once("-w", "/x/new/place", "-v", f"{folder}/source:/x", script="pwd")
    seen["below it, read-only"] = engine.once("-w", "/x/other", "-v", f"{folder}/source:/x:ro", script="pwd")
    name = engine.name()
    ended = engine.docker("run", "--name", name, "-v", f"{folder}/source:/x", "--entrypoint", "/x/run", "busybox")
    return seen | {"the program is bound": ended.seen(), "machine": machine.tree(folder)}


@case(GROUP, "stopped, started, killed, renamed, updated")
def _(engine, folder):
    machine.write(folder / "file", "one\n")
    name, _ = engine.running("-v", f"{folder}:/x")
    seen = {}
    for words in (
        f"kill {name}",
        f"start {name}",
        f"stop -t 1 {name}",
        f"start {name}",
        f"restart -t 1 {name}",
        f"update -m 64m --memory-swap 64m {name}",
    ):
        ended = engine.docker(words)
        seen.setdefault(words.split()[0], []).append(ended.code)
    machine.write(folder / "file", "two\n")
    return seen | {"inside": engine.inside(name, "cat /x/file"), "told": engine.mounts(name)}


@case(GROUP, "a volume and a bind are told apart")
def _(engine, folder):
    volume = engine.name()
    name, ended = engine.running(
        "-v",
        f"{volume}:/volume",
        "-v",
        f"{folder}:/bound",
        "-v",
        "/anonymous",
        "--mount",
        "type=tmpfs,target=/memory",
        "--mount",
        f"type=bind,source={folder},target=/again",
    )
    told = engine.inspect(name)
    anonymous = [row["Name"] for row in told["Mounts"] if row["Destination"] == "/anonymous"]
    seen = {"run": ended.code, "told": engine.mounts(name), "config": told["Config"].get("Volumes")}
    listed = engine.docker("volume", "ls", "-q").out.split()
    return seen | {"volumes": [volume in listed, anonymous[0] in listed if anonymous else None, any(str(folder) in row for row in listed)]}
