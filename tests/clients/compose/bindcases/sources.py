"""Sources of every kind that people give, by plain containers: missing, removed, relative, links, odd names, sockets, devices."""

import os

from . import machine
from .suites import case

GROUP = "sources"


@case(GROUP, "the whole machine, read-only")
def _(engine, folder):
    machine.write(folder / "note", "note\n")
    script = f"cat /host{folder}/note; touch /host{folder}/x /host/dev/shm/d2k-x; test -d /host/etc && echo etc"
    return {"run": engine.once("-v", "/:/host:ro", script=script), "machine": machine.tree(folder)}


@case(GROUP, "the whole machine onto the container's own root")
def _(engine, folder):
    return {"run": engine.once("-v", "/:/"), "mount": engine.once("--mount", "type=bind,source=/,target=/")}


@case(GROUP, "relative to the working folder")
def _(engine, folder):
    machine.write(folder / "rel/file", "content\n")
    seen = {
        "present": engine.once("-v", "./rel:/x", script="ls /x", cwd=folder),
        "missing": engine.once("-v", "./missing:/x", script="ls /x", cwd=folder),
    }
    seen["dot"] = engine.once("-v", ".:/x", script="ls /x", cwd=folder)
    seen["parent"] = engine.once("-v", "..:/x", script="ls /x", cwd=folder / "rel")
    seen["mount"] = engine.once("--mount", "type=bind,source=./rel,target=/x", script="ls /x", cwd=folder)
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "a path with dots and slashes in it")
def _(engine, folder):
    machine.write(folder / "b/file", "content\n")
    machine.make(folder / "a")
    name, ended = engine.running(
        "-v", f"{folder}/a/../b:/x", "-v", f"{folder}//b/./:/y/", "--mount", f"type=bind,source={folder}/a/../b,target=/z"
    )
    return {"run": ended.code, "says": ended.says(), "mounts": engine.mounts(name), "inside": engine.inside(name, "ls /x /y /z")}


@case(GROUP, "a path with dots through a folder that is missing")
def _(engine, folder):
    machine.write(folder / "b/file", "content\n")
    return {"run": engine.once("-v", f"{folder}/missing/../b:/x", script="ls /x"), "machine": machine.tree(folder)}


@case(GROUP, "missing, by --mount")
def _(engine, folder):
    return {"run": engine.once("--mount", f"type=bind,source={folder}/missing,target=/x"), "machine": machine.tree(folder)}


@case(GROUP, "missing, by -v")
def _(engine, folder):
    name = engine.name()
    created = engine.docker("create", "--name", name, "-v", f"{folder}/new/dir:/x", "busybox", "stat", "-c", "%a %u:%g %F", "/x")
    seen = {"create": created.code, "machine after create": machine.tree(folder)}
    seen["start"] = engine.docker("start", "-a", name).seen()
    return seen | {"machine": machine.tree(folder), "mounts": engine.mounts(name)}


@case(GROUP, "missing, by -v, read-only, as a user")
def _(engine, folder):
    return {
        "run": engine.once("-u", "1000:1000", "-v", f"{folder}/new:/x:ro", script="touch /x/y; ls -d /x"),
        "machine": machine.tree(folder),
    }


@case(GROUP, "its parent is a file")
def _(engine, folder):
    machine.write(folder / "file")
    seen = {
        "v": engine.once("-v", f"{folder}/file/below:/x"),
        "mount": engine.once("--mount", f"type=bind,source={folder}/file/below,target=/x"),
    }
    return seen | {"machine": machine.tree(folder)}


def removed(engine, folder, *options):
    machine.write(folder / "source/file")
    name = engine.name()
    created = engine.docker("create", "--name", name, *options, "busybox", "ls", "-a", "/x")
    (folder / "source/file").unlink()
    (folder / "source").rmdir()
    started = engine.docker("start", "-a", name).seen()
    return {"create": created.code, "start": started, "container": engine.state(name), "machine": machine.tree(folder)}


@case(GROUP, "removed between create and start, by -v")
def _(engine, folder):
    return removed(engine, folder, "-v", f"{folder}/source:/x")


@case(GROUP, "removed between create and start, by --mount")
def _(engine, folder):
    return removed(engine, folder, "--mount", f"type=bind,source={folder}/source,target=/x")


@case(GROUP, "a file removed between create and start, by -v")
def _(engine, folder):
    machine.write(folder / "source")
    name = engine.name()
    created = engine.docker(
        "create", "--name", name, "-v", f"{folder}/source:/etc/settings", "busybox", "stat", "-c", "%F", "/etc/settings"
    )
    (folder / "source").unlink()
    return {"create": created.code, "start": engine.docker("start", "-a", name).seen(), "machine": machine.tree(folder)}


def removed_while_it_runs(engine, folder, *options):
    machine.write(folder / "source/file", "content\n")
    name, ended = engine.running(*options)
    (folder / "source/file").unlink()
    (folder / "source").rmdir()
    seen = {"run": ended.code, "inside": engine.inside(name, "ls -a /x; touch /x/y")}
    restarted = engine.docker("restart", "-t", "1", name)
    seen |= {"restart": restarted.code, "says": restarted.says(), "container": engine.state(name), "machine": machine.tree(folder)}
    return seen | {"inside after it": engine.inside(name, "ls -a /x; touch /x/y")}


@case(GROUP, "removed while it runs, then restarted, by -v")
def _(engine, folder):
    return removed_while_it_runs(engine, folder, "-v", f"{folder}/source:/x")


@case(GROUP, "removed while it runs, then restarted, by --mount")
def _(engine, folder):
    return removed_while_it_runs(engine, folder, "--mount", f"type=bind,source={folder}/source,target=/x")


@case(GROUP, "replaced by another folder while it runs")
def _(engine, folder):
    machine.write(folder / "source/file", "old\n")
    name, _ = engine.running("-v", f"{folder}/source:/x")
    (folder / "source").rename(folder / "away")
    machine.write(folder / "source/file", "new\n")
    seen = {"inside": engine.inside(name, "cat /x/file; touch /x/y"), "machine": machine.tree(folder)}
    engine.docker("restart", "-t", "1", name)
    return seen | {"inside after a restart": engine.inside(name, "cat /x/file")}


@case(GROUP, "a link to a folder, turned while it is mounted")
def _(engine, folder):
    machine.write(folder / "one/file", "one\n")
    machine.write(folder / "two/file", "two\n")
    (folder / "link").symlink_to("one")
    name, _ = engine.running("-v", f"{folder}/link:/x")
    seen = {"mounts": engine.mounts(name), "inside": engine.inside(name, "cat /x/file; touch /x/made")}
    (folder / "link").unlink()
    (folder / "link").symlink_to(folder / "two")
    seen["inside after the turn"] = engine.inside(name, "cat /x/file")
    seen["restart"] = engine.docker("restart", "-t", "1", name).code
    return seen | {"inside after a restart": engine.inside(name, "cat /x/file"), "machine": machine.tree(folder)}


@case(GROUP, "links: to a file, broken, in a circle, in the middle of the path")
def _(engine, folder):
    machine.write(folder / "deep/file", "content\n")
    for name, target in {"file": "deep/file", "broken": "nowhere", "circle": "circle", "middle": "deep"}.items():
        (folder / name).symlink_to(target)
    seen = {name: engine.once("-v", f"{folder}/{name}:/x", script="cat /x; stat -c %F /x") for name in ("file", "broken", "circle")}
    seen["middle"] = engine.once("-v", f"{folder}/middle/file:/x", script="cat /x")
    mount = f"type=bind,source={folder}/broken,target=/x"
    return seen | {"broken by --mount": engine.once("--mount", mount), "machine": machine.tree(folder)}


@case(GROUP, "links inside of a bound folder")
def _(engine, folder):
    machine.write(folder / "source/file", "of the machine\n")
    machine.write(folder / "outside", "outside\n")
    for name, target in {"inner": "file", "outer": "../outside", "absolute": "/etc/passwd", "exact": folder / "source/file"}.items():
        (folder / "source" / name).symlink_to(target)
    script = "for f in inner outer absolute exact; do readlink /x/$f; cat /x/$f | head -n 1; done"
    return {"run": engine.once("-v", f"{folder}/source:/x", script=script)}


@case(GROUP, "ten thousand files")
def _(engine, folder):
    source = machine.make(folder / "source")
    for number in range(10_000):
        (source / f"file-{number}").touch()
    return {
        "run": engine.once("-v", f"{source}:/x", script="ls /x | wc -l; rm -rf /x/*; ls /x | wc -l"),
        "machine": len(os.listdir(source)),
    }


@case(GROUP, "names with blanks, quotes and letters of the world")
def _(engine, folder):
    seen = {}
    for name in ("with blank", "it's", 'a "quote"', "größe-日本", "back\\slash", "$HOME", "-dash", "#hash", "trailing ", "%20", "*"):
        machine.write(folder / name / "file", f"{name}\n")
        seen[name] = engine.once("-v", f"{folder}/{name}:/x/{name}", script="cat /x/*/file; printf '%s\\n' /x/*")
    return seen


@case(GROUP, "names with a colon, a comma and a line end")
def _(engine, folder):
    machine.write(folder / "a:b/file", "colon\n")
    machine.write(folder / "a,b/file", "comma\n")
    machine.write(folder / "a\nb/file", "line end\n")
    seen = {"colon by -v": engine.once("-v", f"{folder}/a:b:/x", script="cat /x/file")}
    seen["colon by --mount"] = engine.once("--mount", f"type=bind,source={folder}/a:b,target=/x:y", script="cat /x:y/file")
    seen["comma by --mount"] = engine.once("--mount", f'type=bind,"source={folder}/a,b",target=/x', script="cat /x/file")
    seen["comma by -v"] = engine.once("-v", f"{folder}/a,b:/x", script="cat /x/file")
    return seen | {"line end by -v": engine.once("-v", f"{folder}/a\nb:/x", script="cat /x/file")}


@case(GROUP, "a name of 255 bytes, and one that is too long")
def _(engine, folder):
    machine.write(folder / ("n" * 255) / "file", "content\n")
    seen = {"longest": engine.once("-v", f"{folder}/{'n' * 255}:/x", script="cat /x/file")}
    for name, options in {
        "v": ["-v", f"{folder}/{'n' * 256}:/x"],
        "mount": ["--mount", f"type=bind,source={folder}/{'n' * 256},target=/x"],
    }.items():
        seen[name] = engine.once(*options)
    return seen


@case(GROUP, "a unix socket of the machine")
def _(engine, folder):
    listener = machine.Listener(folder / "log.sock")
    script = "stat -c '%F %a' /dev/log; logger -t app hello; sleep 0.3"
    seen = {"run": engine.once("-v", f"{folder}/log.sock:/dev/log", script=script)}
    seen["read-only"] = engine.once("-v", f"{folder}/log.sock:/dev/log:ro", script=script)
    seen["mount"] = engine.once("--mount", f"type=bind,source={folder}/log.sock,target=/dev/log", script=script)
    listener.close()
    return seen | {
        "heard": [line.split(": ")[-1].strip() for line in listener.heard],
        "after the server": engine.once("-v", f"{folder}/log.sock:/dev/log", script=script),
    }


@case(GROUP, "devices, pipes")
def _(engine, folder):
    os.mkfifo(folder / "pipe", 0o644)
    seen = {
        "null": engine.once("-v", "/dev/null:/etc/motd", script="cat /etc/motd; echo x > /etc/motd && echo written; stat -c %F /etc/motd")
    }
    seen["zero, read-only"] = engine.once("-v", "/dev/zero:/zero:ro", script="head -c 4 /zero | wc -c; echo x > /zero && echo written")
    seen["pipe"] = engine.once("-v", f"{folder}/pipe:/pipe", script="stat -c %F /pipe; (echo through > /pipe &) ; cat /pipe")
    seen["a folder of devices"] = engine.once(
        "-v", "/dev:/devices:ro", script="echo x > /devices/null && echo written; head -c 1 /devices/mem | wc -c"
    )
    os.mknod(folder / "kmsg", 0o666 | 0o020000, os.makedev(1, 11))
    return seen | {"a device that containers may not open": engine.once("-v", f"{folder}/kmsg:/kmsg", script="head -c 1 /kmsg | wc -c")}


@case(GROUP, "a program of the machine that changes its user")
def _(engine, folder):
    reply = engine.docker("run", "--rm", "-v", f"{folder}:/x", "busybox", "sh", "-c", "cp /bin/busybox /x/passwd && chmod 4755 /x/passwd")
    seen = {"copy": reply.code, "run": engine.once("-u", "1000:1000", "-v", f"{folder}:/x", script="/x/passwd")}
    return seen | {
        "without new privileges": engine.once(
            "--security-opt", "no-new-privileges", "-u", "1000:1000", "-v", f"{folder}:/x", script="/x/passwd"
        )
    }


@case(GROUP, "owners and modes")
def _(engine, folder):
    machine.make(folder / "closed", 0o750, 1000)
    machine.write(folder / "closed/file", "content\n", 0o640, 1000)
    options = ("-v", f"{folder}/closed:/x")
    script = "stat -c '%a %u:%g' /x /x/file; cat /x/file; touch /x/made; id -u"
    seen = {user: engine.once("-u", user, *options, script=script) for user in ("0", "1000:1000", "1001:1001", "1001:1000")}
    seen["group"] = engine.once("-u", "1001", "--group-add", "1000", *options, script=script)
    seen["no capabilities"] = engine.once("--cap-drop", "ALL", *options, script=script)
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "without a source, empty, or of one character")
def _(engine, folder):
    seen = {words: engine.once("-v", words) for words in (":/x", "x", "/x:", "::", "/x", " :/x", "~/x:/x")}
    for words in ("type=bind,target=/x", "type=bind,source=,target=/x", "type=bind,source=rel,target=/x"):
        seen[words] = engine.once("--mount", words, cwd=folder)
    return seen


@case(GROUP, "a socket in a folder that is bound")
def _(engine, folder):
    listener = machine.Listener(folder / "log.sock")
    script = "ln -sf /x/log.sock /dev/log; logger -t app hello; sleep 0.3; stat -c %F /x/log.sock"
    seen = {"run": engine.once("-v", f"{folder}:/x", script=script), "read-only": engine.once("-v", f"{folder}:/x:ro", script=script)}
    listener.close()
    return seen | {"heard": [line.split(": ")[-1].strip() for line in listener.heard]}
