"""What docker-py's users do, through its high-level calls, each asserted against what a Docker engine answers.

Prints one line a behaviour."""

import http.client
import io
import os
import pathlib
import shutil
import socket
import sys
import tarfile
import tempfile
import threading
import time
import urllib.parse
import uuid

import docker
from docker.errors import APIError, ContainerError, ImageNotFound, NotFound
from docker.types import Mount
from runner import behaviour, run, same, until

IMAGE = "busybox"
SERVER = "nginx"
RUN = uuid.uuid4().hex[:8]
client = docker.from_env(timeout=60)
LABEL = f"d2k.clients={RUN}"
MACHINE = pathlib.Path(tempfile.mkdtemp(prefix="d2k-"))

def named(name):
    return f"{name}-{RUN}"


def start(command="sleep 1000", image=IMAGE, **options):
    options.setdefault("labels", {"d2k.clients": RUN})
    return client.containers.run(image, command, detach=True, **options)


def output(command, **options):
    options.setdefault("labels", {"d2k.clients": RUN})
    return client.containers.run(options.pop("image", IMAGE), command, **options)


def refused(status, call, *words):
    try:
        answer = call()
    except APIError as error:
        assert error.status_code == status, f"{error.status_code}, not {status}: {error}"
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return error
    raise AssertionError(f"not refused with {status} but answered {answer!r}")


def archive(files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def fetch(container, path):
    chunks, stat = container.get_archive(path)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
        return {e.name: tar.extractfile(e).read() if e.isfile() else None for e in tar.getmembers()}, stat


# The daemon.


@behaviour("ping, version and info")
def _():
    assert client.ping() is True
    version = client.version()
    assert version["ApiVersion"] and version["Os"] == "linux", version
    info = client.info()
    assert info["OSType"] == "linux" and info["NCPU"] > 0 and info["MemTotal"] > 0, info
    assert info["Swarm"]["LocalNodeState"] == "inactive"


@behaviour("the disk usage")
def _():
    usage = client.df()
    # From 1.52 on an engine answers with figures, before with lists.
    for old, new in (("Containers", "ContainerUsage"), ("Images", "ImageUsage"), ("Volumes", "VolumeUsage")):
        assert isinstance(usage.get(old), list) or usage[new]["TotalCount"] >= 0, usage


@behaviour("swarm is refused with 503 and Docker's words")
def _():
    for call in (client.services.list, client.nodes.list, client.secrets.list, client.configs.list):
        refused(503, call, "This node is not a swarm manager")
    refused(503, lambda: client.swarm.init(), "")


@behaviour("a login that the registry takes")
def _():
    answer = client.login("someone", "secret", registry=os.environ.get("D2K_CLIENTS_REGISTRY", "127.0.0.1:5000"), reauth=True)
    same(answer["Status"], "Login Succeeded")


@behaviour("an empty Host header is no error")
def _():
    url = urllib.parse.urlsplit(os.environ["DOCKER_HOST"])
    with socket.create_connection((url.hostname, url.port), 10) as connection:
        connection.sendall(b"GET /_ping HTTP/1.1\r\nHost:\r\nConnection: close\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"OK"), answer


# containers.run.


@behaviour("run returns the output of the container")
def _():
    same(output("echo hello"), b"hello\n")


@behaviour("run with remove leaves nothing")
def _():
    same(output("echo gone", remove=True, name=named("gone")), b"gone\n")
    refused(404, lambda: client.containers.get(named("gone")), "No such container")


@behaviour("run returns standard error only where asked")
def _():
    script = ["sh", "-c", "echo out; sleep 0.2; echo err >&2"]
    same(output(script), b"out\n")
    same(output(script, stdout=False, stderr=True), b"err\n")
    same(output(script, stdout=True, stderr=True), b"out\nerr\n")


@behaviour("run tells exit code and standard error of what failed")
def _():
    try:
        output(["sh", "-c", "echo out; echo broken >&2; exit 7"], remove=True)
    except ContainerError as error:
        same(error.exit_status, 7)
        same(error.stderr, b"broken\n")
    else:
        raise AssertionError("no error")


@behaviour("run detached, with stream of the log")
def _():
    container = start(["sh", "-c", "for i in 1 2 3; do echo line $i; sleep 0.3; done"])
    same(list(container.logs(stream=True, follow=True)), [b"line 1\n", b"line 2\n", b"line 3\n"])
    same(container.wait()["StatusCode"], 0)


@behaviour("run with auto_remove goes by itself")
def _():
    container = start("sleep 1", auto_remove=True)
    same(container.wait(condition="removed")["StatusCode"], 0)
    until("the container is gone", lambda: not client.containers.list(all=True, filters={"id": container.id}))


@behaviour("run of an image that does not exist")
def _():
    try:
        client.containers.run(f"nosuch/{RUN}", "true")
    except (ImageNotFound, APIError) as error:
        assert error.status_code == 404, error
    else:
        raise AssertionError("no error")


@behaviour("run of a program that does not exist")
def _():
    error = refused(400, lambda: output("nosuchprogram"), "nosuchprogram")
    assert "executable file not found" in str(error) or "no such file" in str(error), error


@behaviour("command, entrypoint, environment, directory, user, hostname and labels")
def _():
    out = output(
        ["-c", "echo $A $(pwd) $(id -u):$(id -g) $(hostname)"],
        entrypoint=["sh"],
        environment={"A": "a b"},
        working_dir="/tmp",
        user="1000:1001",
        hostname="machine",
        labels={"it.Is": "a Label / with=all", "d2k.clients": RUN},
        name=named("settings"),
    )
    same(out, b"a b /tmp 1000:1001 machine\n")
    same(client.containers.get(named("settings")).labels, {"it.Is": "a Label / with=all", "d2k.clients": RUN})


@behaviour("limits, tmpfs, shared memory and a read-only root")
def _():
    container = start(mem_limit="64m", nano_cpus=500_000_000, tmpfs={"/scratch": "size=8m"}, shm_size="32m", read_only=True)
    host = container.attrs["HostConfig"]
    same((host["Memory"], host["NanoCpus"], host["ShmSize"]), (64 << 20, 500_000_000, 32 << 20))
    same(container.exec_run("sh -c 'echo x > /scratch/f && cat /scratch/f'").output, b"x\n")
    assert container.exec_run("touch /etc/f").exit_code != 0
    assert b"32768" in container.exec_run("df -k /dev/shm").output


@behaviour("init, capabilities, privileged and stop signal")
def _():
    container = start(["sh", "-c", "trap 'exit 5' USR1; while :; do sleep 0.1; done"], init=True, cap_drop=["NET_RAW"], stop_signal="SIGUSR1")
    assert container.attrs["HostConfig"]["Init"] is True
    time.sleep(0.5)
    container.stop(timeout=10)
    same(container.wait()["StatusCode"], 5)


# Logs.


@behaviour("logs by tail, since, until and with timestamps")
def _():
    container = start(["sh", "-c", "echo 1; echo 2; sleep 2.2; echo 3"])
    container.wait()
    same(container.logs(), b"1\n2\n3\n")
    same(container.logs(tail=1), b"3\n")
    same(container.logs(tail=0), b"")
    stamped = container.logs(timestamps=True).decode().splitlines()
    times = [line.split(" ")[0] for line in stamped]
    assert all(t.endswith("Z") and len(t) == len("2026-01-01T00:00:00.000000000Z") for t in times), stamped
    last = docker.utils.datetime_to_timestamp(__import__("datetime").datetime.strptime(times[2][:19], "%Y-%m-%dT%H:%M:%S"))
    same(container.logs(since=int(last)), b"3\n")
    same(container.logs(until=int(last)), b"1\n2\n")


@behaviour("logs tell standard output and error apart")
def _():
    container = start(["sh", "-c", "echo out; echo err >&2"])
    container.wait()
    same(container.logs(stdout=True, stderr=False), b"out\n")
    same(container.logs(stdout=False, stderr=True), b"err\n")


@behaviour("logs of a container that ended some time ago, and of a stopped one")
def _():
    container = start(["sh", "-c", "echo kept; sleep 1000"])
    until("it wrote", lambda: container.logs() == b"kept\n")
    container.stop(timeout=1)
    same(container.logs(), b"kept\n")


@behaviour("logs followed while they come")
def _():
    container = start(["sh", "-c", "echo first; sleep 1; echo second; sleep 1000"])
    stream = container.logs(stream=True, follow=True)
    begin = time.monotonic()
    same(next(stream), b"first\n")
    same(next(stream), b"second\n")
    assert time.monotonic() - begin < 5
    stream.close()


# Exec.


@behaviour("exec with output, exit code, environment, directory and user")
def _():
    container = start()
    result = container.exec_run(["sh", "-c", "echo $A $(pwd) $(id -u); exit 3"], environment={"A": "x"}, workdir="/tmp", user="1000")
    same((result.exit_code, result.output), (3, b"x /tmp 1000\n"))


@behaviour("exec with standard output and error apart")
def _():
    result = start().exec_run(["sh", "-c", "echo out; echo err >&2"], demux=True)
    same(result.output, (b"out\n", b"err\n"))


@behaviour("exec as a stream, as it comes")
def _():
    _, stream = start().exec_run(["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.4; done"], stream=True)
    times = []
    chunks = []
    for chunk in stream:
        chunks.append(chunk)
        times.append(time.monotonic())
    same(b"".join(chunks), b"1\n2\n3\n")
    assert times[-1] - times[0] > 0.5, "all came at once"


@behaviour("exec with a terminal")
def _():
    result = start().exec_run("sh -c 'tty; echo $TERM'", tty=True)
    same(result.exit_code, 0)
    assert result.output.startswith(b"/dev/pts/") and b"\r\n" in result.output, result.output


@behaviour("exec through its socket, with input and its end")
def _():
    container = start()
    made = client.api.exec_create(container.id, ["sh", "-c", "wc -c; echo done >&2"], stdin=True)
    raw = client.api.exec_start(made["Id"], socket=True)
    inner = raw._sock
    inner.sendall(b"12345")
    inner.shutdown(socket.SHUT_WR)
    received = b"".join(frame for _, frame in docker.utils.socket.frames_iter(raw, False))
    assert b"5\n" in received and b"done\n" in received, received
    state = client.api.exec_inspect(made["Id"])
    same((state["Running"], state["ExitCode"], state["ContainerID"]), (False, 0, container.id))


@behaviour("exec detached")
def _():
    container = start()
    same(container.exec_run("touch /tmp/made", detach=True).exit_code, None)
    until("the file is there", lambda: container.exec_run("test -e /tmp/made").exit_code == 0)


@behaviour("exec of a program that does not exist, and in a stopped container")
def _():
    container = start()
    same(container.exec_run("nosuchprogram").exit_code, 127)
    container.stop(timeout=1)
    refused(409, lambda: container.exec_run("true"), "is not running")


@behaviour("exec gets the size of a terminal")
def _():
    container = start()
    made = client.api.exec_create(container.id, ["sh", "-c", "sleep 1; stty size"], tty=True)
    stream = client.api.exec_start(made["Id"], tty=True, stream=True)
    client.api.exec_resize(made["Id"], height=31, width=97)
    assert b"31 97" in b"".join(stream)


# Attach.


@behaviour("attach with input and its end, before the start")
def _():
    container = client.containers.create(IMAGE, "cat", stdin_open=True, labels={"d2k.clients": RUN})
    raw = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
    raw._sock.sendall(b"through and back\n")
    container.start()
    raw._sock.shutdown(socket.SHUT_WR)
    same(b"".join(frame for _, frame in docker.utils.socket.frames_iter(raw, False)), b"through and back\n")
    same(container.wait()["StatusCode"], 0)


@behaviour("attach streams with the log before")
def _():
    container = start(["sh", "-c", "echo before; sleep 2; echo after"])
    time.sleep(1)
    same(b"".join(container.attach(stream=True, logs=True)), b"before\nafter\n")


@behaviour("attach with streams apart")
def _():
    container = client.containers.create(IMAGE, ["sh", "-c", "sleep 0.5; echo out; echo err >&2"], labels={"d2k.clients": RUN})
    stream = client.api.attach(container.id, stream=True, demux=True)
    container.start()
    pairs = list(stream)
    same((b"".join(o for o, _ in pairs if o), b"".join(e for _, e in pairs if e)), (b"out\n", b"err\n"))


# Archives.


@behaviour("an archive put and fetched")
def _():
    container = start()
    assert container.put_archive("/tmp", archive({"a.txt": b"one", "d/b.txt": b"two"}))
    same(container.exec_run("cat /tmp/a.txt /tmp/d/b.txt").output, b"onetwo")
    files, stat = fetch(container, "/tmp/d")
    same(files, {"d": None, "d/b.txt": b"two"} if "d" in files else {"d/": None, "d/b.txt": b"two"})
    same(stat["name"], "d")
    files, stat = fetch(container, "/tmp/a.txt")
    same((files, stat["size"]), ({"a.txt": b"one"}, 3))


@behaviour("an archive put before the start")
def _():
    container = client.containers.create(IMAGE, "cat /etc/early.txt", labels={"d2k.clients": RUN})
    assert container.put_archive("/etc", archive({"early.txt": b"in time"}))
    container.start()
    container.wait()
    same(container.logs(), b"in time")


@behaviour("archives of what does not exist, and onto what is no folder")
def _():
    container = start()
    refused(404, lambda: container.get_archive("/nosuch"), "Could not find the file /nosuch in container")
    refused(404, lambda: container.put_archive("/nosuch", archive({"a": b""})), "/nosuch")
    refused(400, lambda: container.put_archive("/etc/passwd", archive({"a": b""})), "not a directory")


@behaviour("a large archive arrives whole")
def _():
    container = start()
    content = os.urandom(1 << 20) * 8
    assert container.put_archive("/tmp", archive({"large": content}))
    files, _ = fetch(container, "/tmp/large")
    assert files["large"] == content


@behaviour("the export of a file system")
def _():
    container = start()
    container.exec_run("sh -c 'echo exported > /etc/marker'")
    exported = io.BytesIO(b"".join(container.export()))
    with tarfile.open(fileobj=exported) as tar:
        names = [entry.name.lstrip("./") for entry in tar.getmembers()]
    assert "etc/marker" in names, names[:20]


# Life.


@behaviour("start, stop, restart and kill, with their states")
def _():
    container = client.containers.create(IMAGE, "sleep 1000", name=named("life"), labels={"d2k.clients": RUN})

    def state():
        container.reload()
        return container.status

    same(state(), "created")
    container.start()
    same(state(), "running")
    container.restart(timeout=1)
    same(state(), "running")
    container.kill()
    until("it has exited", lambda: state() == "exited")
    same(container.attrs["State"]["ExitCode"], 137)
    container.start()
    same(state(), "running")
    container.stop(timeout=1)
    same(state(), "exited")


@behaviour("pause and unpause")
def _():
    container = start(["sh", "-c", "while :; do echo x; sleep 0.1; done"], init=True)
    container.pause()
    container.reload()
    same(container.status, "paused")
    container.unpause()
    container.reload()
    same(container.status, "running")


@behaviour("wait with its conditions")
def _():
    created = client.containers.create(IMAGE, "true", labels={"d2k.clients": RUN})
    same(created.wait(condition="not-running")["StatusCode"], 0)
    container = start(["sh", "-c", "sleep 2; exit 9"])
    same(container.wait(condition="next-exit")["StatusCode"], 9)
    same(container.wait()["StatusCode"], 9)
    refused(400, lambda: container.wait(condition="nonsense"), "")
    threading.Timer(1, container.remove).start()
    same(container.wait(condition="removed")["StatusCode"], 9)


@behaviour("remove of a running container needs force")
def _():
    container = start()
    refused(409, container.remove, "container is running")
    container.remove(force=True)
    refused(404, container.remove, "No such container")


@behaviour("rename, and a name that is taken")
def _():
    container = start(name=named("old"))
    container.rename(named("new"))
    same(client.containers.get(named("new")).id, container.id)
    refused(409, lambda: client.containers.create(IMAGE, name=named("new")), "is already in use by container", container.id)


@behaviour("update of limits and restart policy")
def _():
    container = start(mem_limit="64m")
    container.update(mem_limit="96m", memswap_limit="192m", restart_policy={"Name": "on-failure", "MaximumRetryCount": 2})
    container.reload()
    host = container.attrs["HostConfig"]
    same((host["Memory"], host["RestartPolicy"]), (96 << 20, {"Name": "on-failure", "MaximumRetryCount": 2}))


@behaviour("the processes of a container")
def _():
    top = start("sleep 1234").top()
    assert "PID" in top["Titles"] and any("sleep 1234" in " ".join(row) for row in top["Processes"]), top
    top = start("sleep 1234").top(ps_args="aux")
    assert any("sleep 1234" in " ".join(row) for row in top["Processes"]), top


@behaviour("changes of a file system are a list")
def _():
    changes = start().diff()
    assert changes is None or isinstance(changes, list), changes


@behaviour("commit is refused with what to do instead")
def _():
    refused(501, lambda: start().commit("some/thing"), "commit")


@behaviour("build is refused with what to do instead")
def _():
    refused(501, lambda: client.images.build(fileobj=io.BytesIO(b"FROM busybox\n")), "build")


@behaviour("stats once and as a stream")
def _():
    container = start("sh -c 'while :; do :; done'", nano_cpus=200_000_000)
    once = container.stats(stream=False)
    same(once["id"], container.id)
    for part in ("cpu_stats", "precpu_stats", "memory_stats", "networks"):
        assert isinstance(once.get(part), dict), once
    assert once["cpu_stats"]["system_cpu_usage"] > 0
    stream = container.stats(stream=True, decode=True)
    first, second = next(stream), next(stream)
    assert second["read"] > first["read"], (first["read"], second["read"])
    stream.close()
    single = client.api.stats(container.id, stream=False, one_shot=True)
    same(single["id"], container.id)


@behaviour("containers listed by their filters")
def _():
    one = start(name=named("one"), labels={"d2k.clients": RUN, "which": f"one-{RUN}"})
    two = client.containers.create(IMAGE, "true", name=named("two"), labels={"d2k.clients": RUN, "which": f"two-{RUN}"})

    def ids(**options):
        return {c.id for c in client.containers.list(**options)}

    assert one.id in ids() and two.id not in ids()
    assert {one.id, two.id} <= ids(all=True)
    same(ids(all=True, filters={"label": f"which=two-{RUN}"}), {two.id})
    same(ids(all=True, filters={"name": named("one")}), {one.id})
    same(ids(filters={"status": "created", "label": LABEL}) & {one.id, two.id}, {two.id})
    same(ids(all=True, filters={"id": one.id[:12]}), {one.id})
    assert one.id in ids(filters={"ancestor": IMAGE})
    same(len(client.containers.list(all=True, limit=1)), 1)
    sparse = client.containers.list(all=True, sparse=True, filters={"name": named("two")})
    same(sparse[0].attrs["State"], "created")


@behaviour("ports, mapped to what this host reaches at once")
def _():
    container = start(None, image=SERVER, ports={"80/tcp": None})
    container.reload()
    port = container.ports["80/tcp"][0]["HostPort"]
    page = http.client.HTTPConnection(urllib.parse.urlsplit(os.environ["DOCKER_HOST"]).hostname, int(port), timeout=10)
    page.request("GET", "/")
    same(page.getresponse().status, 200)


@behaviour("prune removes what has ended, by its label")
def _():
    label = f"prune-{RUN}"
    ended = start("true", labels={"d2k.clients": RUN, "prune": label})
    ended.wait()
    running = start(labels={"d2k.clients": RUN, "prune": label})
    pruned = client.containers.prune(filters={"label": f"prune={label}"})
    same(pruned["ContainersDeleted"], [ended.id])
    running.reload()


@behaviour("events of a life, live, by filter, and again from the past")
def _():
    since = int(time.time())
    seen = []
    stream = client.events(decode=True, filters={"label": f"events={RUN}", "type": "container"})

    def read():
        for event in stream:
            seen.append(event)
            if event["Action"] == "destroy":
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    time.sleep(0.3)
    container = start(["sh", "-c", "exit 4"], labels={"d2k.clients": RUN, "events": RUN}, name=named("events"))
    container.wait()
    until("die is told", lambda: any(e["Action"] == "die" for e in seen))
    container.remove()
    reader.join(20)
    stream.close()
    actions = [event["Action"] for event in seen]
    same(actions, ["create", "start", "die", "destroy"])
    die = seen[2]
    same((die["Actor"]["ID"], die["Actor"]["Attributes"]["exitCode"], die["Actor"]["Attributes"]["name"]), (container.id, "4", named("events")))
    past = [e["Action"] for e in client.events(decode=True, since=since, until=int(time.time()) + 1, filters={"container": container.id})]
    assert {"create", "start", "die", "destroy"} <= set(past), past


@behaviour("a health check and its state")
def _():
    check = {"test": ["CMD-SHELL", "test -e /tmp/well"], "interval": 500_000_000, "timeout": 5_000_000_000, "retries": 2}
    container = start(healthcheck=check)

    def health():
        container.reload()
        return container.health

    same(health(), "starting")
    until("it is unhealthy", lambda: health() == "unhealthy")
    container.exec_run("touch /tmp/well")
    until("it is healthy", lambda: health() == "healthy")


# Images.


@behaviour("an image pulled with progress")
def _():
    lines = list(client.api.pull(IMAGE, tag="latest", stream=True, decode=True))
    assert any(line.get("status", "").startswith("Pulling from") for line in lines), lines
    assert lines[-1]["status"].startswith("Status: "), lines
    image = client.images.pull(IMAGE, tag="latest")
    assert "busybox:latest" in image.tags, image.tags


@behaviour("an image that does not exist cannot be pulled")
def _():
    try:
        client.images.pull(f"nosuch/{RUN}", tag="1")
    except (NotFound, ImageNotFound) as error:
        assert error.status_code == 404
    else:
        raise AssertionError("no error")


@behaviour("images listed and inspected, with their history")
def _():
    client.images.pull(SERVER, tag="latest")
    image = client.images.get(SERVER)
    assert image.id.startswith("sha256:") and "80/tcp" in image.attrs["Config"]["ExposedPorts"], image.attrs
    assert any(f"{SERVER}:latest" in i.tags for i in client.images.list())
    same([i.id for i in client.images.list(name=SERVER)], [image.id])
    assert isinstance(image.history(), list) and image.history()
    refused(404, lambda: client.images.get(f"nosuch-{RUN}"), "No such image")


@behaviour("an image tagged, used by its new name, and untagged")
def _():
    client.images.pull(IMAGE, tag="latest")
    image = client.images.get(IMAGE)
    assert image.tag(f"tagged-{RUN}", tag="one")
    same(client.images.get(f"tagged-{RUN}:one").id, image.id)
    same(client.containers.run(f"tagged-{RUN}:one", "echo tagged", remove=True), b"tagged\n")
    client.images.remove(f"tagged-{RUN}:one")
    refused(404, lambda: client.images.get(f"tagged-{RUN}:one"))
    client.images.get(IMAGE)


@behaviour("a search answers with a list")
def _():
    try:
        assert isinstance(client.images.search("busybox"), list)
    except APIError as error:
        # Without a way to the hub this is what an engine answers.
        assert error.status_code == 500, error


@behaviour("an image saved, removed and loaded, or a refusal that says what to do")
def _():
    image = client.images.get(IMAGE)
    image.tag(f"saved-{RUN}", tag="1")
    try:
        saved = b"".join(client.images.get(f"saved-{RUN}:1").save(named=f"saved-{RUN}:1"))
    except APIError as error:
        assert error.status_code == 501 and "registry" in str(error), error
        refused(501, lambda: client.images.load(b"x"), "registry")
        return
    client.images.remove(f"saved-{RUN}:1")
    loaded = client.images.load(saved)
    assert any(f"saved-{RUN}:1" in i.tags for i in loaded), [i.tags for i in loaded]
    same(client.containers.run(f"saved-{RUN}:1", "echo loaded", remove=True), b"loaded\n")
    client.images.remove(f"saved-{RUN}:1")


@behaviour("prune of images and builds answers with figures")
def _():
    assert "SpaceReclaimed" in client.images.prune(filters={"dangling": True})
    assert "SpaceReclaimed" in client.images.prune_builds()


@behaviour("what a registry says of an image")
def _():
    assert client.images.get_registry_data(IMAGE).id.startswith("sha256:")


# Volumes.


@behaviour("volumes made, listed, used, removed")
def _():
    volume = client.volumes.create(named("data"), labels={"d2k.clients": RUN})
    same((volume.name, volume.attrs["Driver"], volume.attrs["Labels"]), (named("data"), "local", {"d2k.clients": RUN}))
    same(client.volumes.create(named("data")).name, named("data"))
    same([v.name for v in client.volumes.list(filters={"label": LABEL})], [named("data")])
    output("sh -c 'echo kept > /data/f'", volumes={named("data"): {"bind": "/data", "mode": "rw"}}, remove=True)
    holder = start(volumes=[f"{named('data')}:/again:ro"])
    same(holder.exec_run("cat /again/f").output, b"kept\n")
    assert holder.exec_run("touch /again/g").exit_code != 0
    refused(409, volume.remove, "volume is in use")
    holder.remove(force=True)
    volume.remove()
    refused(404, lambda: client.volumes.get(named("data")), "no such volume")


# Binds of paths of this machine, which only an embedded cluster has: on a real one each must be refused, and `bound` gives nothing.


def bound(*command, **options):
    if os.environ["D2K_CLIENTS_CLUSTER"] == "embedded":
        return start(*command, **options)
    refused(400, lambda: start(*command, **options), "bind mounts are not supported", "Use a named volume")
    same(client.containers.list(all=True, filters={"label": LABEL}), [])


def folder(name, **files):
    made = MACHINE / name
    made.mkdir()
    for file, content in files.items():
        (made / file).write_text(content)
    return made


def inside(container, script):
    result = container.exec_run(["sh", "-c", script])
    return result.exit_code, result.output


def shown(container):
    container.reload()
    mounts = sorted(container.attrs["Mounts"], key=lambda mount: mount["Destination"])
    return [tuple(mount[field] for field in ("Type", "Source", "Destination", "Mode", "RW", "Propagation")) for mount in mounts]


@behaviour("a folder of the machine, by a dictionary, is seen from both sides, or is refused")
def _():
    here = folder("both", first="from the machine")
    if container := bound(volumes={str(here): {"bind": "/data", "mode": "rw"}}):
        same(inside(container, "cat /data/first"), (0, b"from the machine"))
        same(inside(container, "echo inside > /data/second; chown 1000:1001 /data/second; mkdir /data/sub"), (0, b""))
        second = (here / "second").stat()
        same(((here / "second").read_text(), second.st_uid, second.st_gid), ("inside\n", 1000, 1001))
        (here / "sub/third").write_text("later")
        same(inside(container, "cat /data/sub/third"), (0, b"later"))
        # As editors save: another file under the same name.
        (here / "new").write_text("saved")
        (here / "new").rename(here / "first")
        same(inside(container, "cat /data/first; rm /data/first"), (0, b"saved"))
        assert not (here / "first").exists()
        same(shown(container), [("bind", str(here), "/data", "rw", True, "rprivate")])


@behaviour("folders by a list, one of them read-only, or they are refused")
def _():
    one, two = folder("one", file="one"), folder("two", file="two")
    if container := bound(volumes=[f"{one}:/one:ro", f"{two}:/two"]):
        same(inside(container, "cat /one/file /two/file"), (0, b"onetwo"))
        code, output = inside(container, "touch /one/new")
        assert code == 1 and b"Read-only file system" in output, output
        same(inside(container, "touch /two/new"), (0, b""))
        same((sorted(os.listdir(one)), sorted(os.listdir(two))), (["file"], ["file", "new"]))
        (one / "file").write_text("changed")
        same(inside(container, "cat /one/file"), (0, b"changed"))
        same(shown(container), [("bind", str(one), "/one", "ro", False, "rprivate"), ("bind", str(two), "/two", "", True, "rprivate")])
        same(sorted(container.attrs["HostConfig"]["Binds"]), [f"{one}:/one:ro", f"{two}:/two"])


@behaviour("a bind by the type Mount, with its options, or it is refused")
def _():
    here = folder("mount", file="by a mount")
    mounts = [
        Mount("/ro", str(here), type="bind", read_only=True, propagation="private"),
        Mount("/rw", str(here), type="bind"),
    ]
    if container := bound(mounts=mounts):
        code, output = inside(container, "cat /ro/file; touch /ro/new")
        assert code == 1 and b"by a mount" in output and b"Read-only file system" in output, output
        same(inside(container, "echo -n two > /rw/file; cat /ro/file"), (0, b"two"))
        same((here / "file").read_text(), "two")
        same(shown(container), [("bind", str(here), "/ro", "", False, "private"), ("bind", str(here), "/rw", "", True, "rprivate")])
        kept = container.attrs["HostConfig"]["Mounts"][0]
        same((kept["Type"], kept["Source"], kept["ReadOnly"], kept["BindOptions"]["Propagation"]), ("bind", str(here), True, "private"))


@behaviour("a single file, read-only, over one of the image, or it is refused")
def _():
    file = folder("single", hosts="machine:x:0:0:::\n") / "hosts"
    if container := bound(volumes={str(file): {"bind": "/etc/passwd", "mode": "ro"}}):
        same(inside(container, "cat /etc/passwd"), (0, b"machine:x:0:0:::\n"))
        assert inside(container, "echo no > /etc/passwd")[0] != 0
        assert inside(container, "rm /etc/passwd")[0] != 0
        same(file.read_text(), "machine:x:0:0:::\n")
        file.write_text("changed\n")
        same(inside(container, "cat /etc/passwd"), (0, b"changed\n"))


@behaviour("a socket of the machine, or it is refused")
def _():
    path = folder("socket") / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        if container := bound(volumes=[f"{path}:/run/its.socket"]):
            same(inside(container, "stat -c %F /run/its.socket"), (0, b"socket\n"))


@behaviour("a missing source is made for the short form, and refused for the type Mount, or both are refused")
def _():
    missing, other = MACHINE / "made/deep", MACHINE / "none"
    if container := bound(["sh", "-c", "echo made > /x/file"], volumes=[f"{missing}:/x"]):
        same(container.wait()["StatusCode"], 0)
        same((missing / "file").read_text(), "made\n")
        words = 'invalid mount config for type "bind": bind source path does not exist: ' + str(other)
        refused(400, lambda: start(mounts=[Mount("/x", str(other), type="bind")]), words)
    else:
        bound(mounts=[Mount("/x", str(other), type="bind")])
        assert not missing.exists()
    assert not other.exists()


@behaviour("a bind is found by the filter volume, and taken by volumes_from, or it is refused")
def _():
    here = folder("taken", file="taken")
    if container := bound(volumes=[f"{here}:/data"], name=named("holder")):
        for value in (str(here), "/data"):
            same([c.id for c in client.containers.list(filters={"volume": value, "label": LABEL})], [container.id])
        same(client.containers.list(filters={"volume": str(MACHINE), "label": LABEL}), [])
        same(output("cat /data/file", volumes_from=[f"{named('holder')}:ro"]), b"taken")
        same(output(["sh", "-c", "touch /data/new || echo refused"], volumes_from=[f"{named('holder')}:ro"]), b"refused\n")


@behaviour("a bind stays through restarts and the removal with volumes, or it is refused")
def _():
    here = folder("stays")
    if container := bound(["sh", "-c", "echo x >> /data/starts; sleep 1000"], volumes=[f"{here}:/data"]):
        until("it has written", lambda: (here / "starts").exists())
        container.restart(timeout=0)
        until("it has written again", lambda: (here / "starts").read_text() == "x\nx\n")
        container.remove(v=True, force=True)
        same((here / "starts").read_text(), "x\nx\n")


@behaviour("an archive through a bind arrives on the machine, and one of it is fetched, or it is refused")
def _():
    here = folder("archive", file="of the machine")
    if container := bound(volumes=[f"{here}:/rw", f"{here}:/ro:ro"]):
        assert container.put_archive("/rw", archive({"put/deep": b"put"}))
        same((here / "put/deep").read_text(), "put")
        same(fetch(container, "/ro/file")[0], {"file": b"of the machine"})


@behaviour("an archive is not put through a read-only bind, which is said, or it is refused")
def _():
    here = folder("read-only-archive")
    if container := bound(volumes=[f"{here}:/ro:ro"]):
        refused(400, lambda: container.put_archive("/ro", archive({"no": b""})), "mounted volume is marked read-only")
        same(os.listdir(here), [])


@behaviour("prune of volumes, by label")
def _():
    client.volumes.create(named("prune"), labels={"prune": RUN})
    pruned = client.volumes.prune(filters={"label": f"prune={RUN}", "all": True})
    same(pruned["VolumesDeleted"], [named("prune")])


# Networks.


@behaviour("networks made, connected with aliases, inspected, left, removed")
def _():
    network = client.networks.create(named("net"), driver="bridge", labels={"d2k.clients": RUN})
    server = start(name=named("server"), network=named("net"))
    network.reload()
    same([c.id for c in network.containers], [server.id])
    other = start()
    network.connect(other, aliases=["friend"])
    other.reload()
    assert "friend" in other.attrs["NetworkSettings"]["Networks"][named("net")]["Aliases"]
    refused(403, network.remove, "active endpoints")
    network.disconnect(other)
    other.reload()
    assert named("net") not in other.attrs["NetworkSettings"]["Networks"]
    network.disconnect(server, force=True)
    network.remove()
    refused(404, lambda: client.networks.get(network.id))


@behaviour("names and aliases resolve on a network")
def _():
    network = client.networks.create(named("names"))
    try:
        server = client.containers.create(SERVER, name=named("web"), labels={"d2k.clients": RUN})
        network.connect(server, aliases=["webalias"])
        server.start()
        script = f"for i in $(seq 50); do wget -qO- http://{named('web')}/ && wget -qO- http://webalias/ && exit; sleep 0.2; done; exit 1"
        out = output(["sh", "-c", script], network=named("names"), remove=True)
        same(out.count(b"<h1>Welcome to nginx!</h1>"), 2)
        server.remove(force=True)
    finally:
        network.remove()


@behaviour("networks listed, and those that are always there")
def _():
    names = {n.name for n in client.networks.list()}
    assert {"bridge", "host", "none"} <= names, names
    gateway = client.networks.list(names=["bridge"])[0]
    gateway.reload()
    assert gateway.attrs["IPAM"]["Config"][0]["Gateway"], gateway.attrs
    refused(403, gateway.remove, "is a pre-defined network and cannot be removed")


@behaviour("prune of networks, by label")
def _():
    client.networks.create(named("prune-net"), labels={"prune": RUN})
    same(client.networks.prune(filters={"label": f"prune={RUN}"})["NetworksDeleted"], [named("prune-net")])


def clean():
    for container in client.containers.list(all=True, sparse=True, ignore_removed=True, filters={"label": LABEL}):
        try:
            container.remove(force=True, v=True)
        except APIError:
            pass


def main():
    print(f"# docker-py {docker.__version__}", flush=True)
    for image in (IMAGE, SERVER):
        client.images.pull(image, tag="latest")
    failed = run(after=clean)
    shutil.rmtree(MACHINE)
    sys.exit(failed > 0)


main()
