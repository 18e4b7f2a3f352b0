"""What users of Testcontainers for Python do. Prints one line a behaviour."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from importlib.metadata import version

import docker
from runner import behaviour, run, same
from testcontainers.core.container import DockerContainer, ExecConfig, Reaper
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    CompositeWaitStrategy,
    ContainerStatusWaitStrategy,
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

MACHINE = pathlib.Path(tempfile.mkdtemp(prefix="d2k-"))


def idle():
    return DockerContainer("busybox").with_command("sleep 1000")


def script(text):
    return DockerContainer("busybox").with_command(["sh", "-c", text])


def url(container, port=80, path="/"):
    return f"http://{container.get_container_host_ip()}:{container.get_exposed_port(port)}{path}"


def get(address, tries=1):
    """What a server answers. With tries: an engine's proxy takes connections before the program does."""
    for left in reversed(range(tries)):
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            if not left:
                raise
            time.sleep(0.2)


@behaviour("a mapped port is reachable at the host of DOCKER_HOST at once")
def _():
    with DockerContainer("nginx").with_exposed_ports(80) as server:
        same(server.get_container_host_ip(), os.environ["DOCKER_HOST"].split("//")[1].split(":")[0])
        assert "Welcome to nginx" in get(url(server))


@behaviour("a port bound to one of this host")
def _():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with DockerContainer("nginx").with_bind_ports(80, port) as server:
        same(server.get_exposed_port(80), port)
        assert "Welcome to nginx" in get(url(server))


@behaviour("waiting for the log")
def _():
    begin = time.monotonic()
    with script("sleep 1; echo it is ready; sleep 1000").waiting_for(LogMessageWaitStrategy("it is ready")) as container:
        assert time.monotonic() - begin > 1
        assert b"it is ready" in container.get_logs()[0]


@behaviour("waiting for a port")
def _():
    container = script("sleep 1; httpd -f -p 80 -h /etc").with_exposed_ports(80)
    with container.waiting_for(PortWaitStrategy(80)) as container:
        assert "root:" in get(url(container, path="/passwd"), tries=20)


@behaviour("waiting for http with a status")
def _():
    container = script("sleep 1; mkdir /w; echo yes > /w/well; httpd -f -p 80 -h /w").with_exposed_ports(80)
    with container.waiting_for(HttpWaitStrategy(80, "/well").for_status_code(200)) as container:
        same(get(url(container, path="/well")), "yes\n")


@behaviour("waiting for health")
def _():
    check = {"test": ["CMD-SHELL", "test -e /tmp/well"], "interval": 300_000_000, "retries": 30}
    container = script("sleep 1; touch /tmp/well; sleep 1000").with_kwargs(healthcheck=check)
    with container.waiting_for(HealthcheckWaitStrategy()) as container:
        container.get_wrapped_container().reload()
        same(container.get_wrapped_container().health, "healthy")


@behaviour("waiting for a command in the container")
def _():
    container = script("sleep 1; touch /tmp/well; sleep 1000")
    with container.waiting_for(ExecWaitStrategy(["test", "-e", "/tmp/well"])) as container:
        same(container.exec("test -e /tmp/well").exit_code, 0)


@behaviour("waiting for the state, and for several things")
def _():
    both = CompositeWaitStrategy(ContainerStatusWaitStrategy(), LogMessageWaitStrategy("two"))
    with script("echo one; sleep 0.5; echo two; sleep 1000").waiting_for(both) as container:
        assert b"two" in container.get_logs()[0]


@behaviour("waiting in vain ends with an error")
def _():
    container = idle().waiting_for(LogMessageWaitStrategy("never").with_startup_timeout(2))
    try:
        container.start()
    except TimeoutError as error:
        assert "never" in str(error), error
    else:
        raise AssertionError("no error")
    finally:
        container.stop()


@behaviour("exec with exit code and output")
def _():
    with idle() as container:
        result = container.exec(["sh", "-c", "echo out; echo err >&2; exit 3"])
        same((result.exit_code, sorted(result.output.split())), (3, [b"err", b"out"]))
        result = container.exec(ExecConfig(command=["sh", "-c", "echo $A $(pwd) $(id -u)"], environment={"A": "x"}, workdir="/tmp", user="1000"))
        same(result.output, b"x /tmp 1000\n")


@behaviour("files copied at the start, after it, and back")
def _():
    with idle().with_copy_into_container(b"early", "/etc/early.txt") as container:
        same(container.exec("cat /etc/early.txt").output, b"early")
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "late.txt"
            source.write_text("late")
            container.copy_into_container(source, "/tmp/late.txt", 0o640)
            same(container.exec("stat -c '%a %n' /tmp/late.txt").output, b"640 /tmp/late.txt\n")
            container.copy_from_container("/tmp/late.txt", pathlib.Path(folder) / "back.txt")
            same((pathlib.Path(folder) / "back.txt").read_text(), "late")


@behaviour("a network with aliases")
def _():
    with Network() as network:
        with DockerContainer("nginx").with_network(network).with_network_aliases("web", "other"):
            with idle().with_network(network) as client:
                for name in ("web", "other"):
                    result = client.exec(["sh", "-c", f"for i in $(seq 50); do wget -qO- http://{name}/ && exit; sleep 0.1; done; exit 1"])
                    assert b"Welcome to nginx" in result.output, result


@behaviour("two networks with the same alias are apart")
def _():
    with Network() as one, Network() as two:
        text = "mkdir /w; echo {} > /w/who; httpd -f -p 80 -h /w"
        with script(text.format("one")).with_network(one).with_network_aliases("db"):
            with script(text.format("two")).with_network(two).with_network_aliases("db"):
                for network, who in ((one, b"one\n"), (two, b"two\n")):
                    with idle().with_network(network) as client:
                        ask = "for i in $(seq 50); do wget -qO- http://db/who && exit; sleep 0.1; done; exit 1"
                        same(client.exec(["sh", "-c", ask]).output.splitlines()[-1] + b"\n", who)


@behaviour("environment, command, name, labels and tmpfs")
def _():
    container = script("echo $A-$B; sleep 1000").with_env("A", "1").with_envs(B="2").with_tmpfs_mount("/scratch", "size=8m")
    container.with_kwargs(labels={"a.Label": "its value"}).with_name(f"tc-{os.getpid()}")
    with container.waiting_for(LogMessageWaitStrategy("1-2")):
        wrapped = container.get_wrapped_container()
        wrapped.reload()
        same((wrapped.name, wrapped.labels["a.Label"]), (f"tc-{os.getpid()}", "its value"))
        assert b"tmpfs" in container.exec("df /scratch").output


@behaviour("a named volume keeps what is written")
def _():
    name = f"tc-{os.getpid()}-data"
    volume = docker.from_env().volumes.create(name)
    try:
        with idle().with_volume_mapping(name, "/data", "rw") as container:
            same(container.exec("sh -c 'echo kept > /data/f'").exit_code, 0)
        with idle().with_volume_mapping(name, "/data", "rw") as container:
            same(container.exec("cat /data/f").output, b"kept\n")
    finally:
        volume.remove(force=True)


@contextlib.contextmanager
def bound(container):
    """Starts what has binds of paths of this machine, which only an embedded cluster has: on a real one it must be refused, and this
    gives nothing."""
    if os.environ["D2K_CLIENTS_CLUSTER"] == "embedded":
        with container:
            yield container
        return
    try:
        container.start()
    except docker.errors.APIError as error:
        same(error.status_code, 400)
        for words in ("bind mounts are not supported", "Use a named volume"):
            assert words in str(error), error
    else:
        container.stop()
        raise AssertionError("no error")
    yield None


@behaviour("a folder of the machine is seen from both sides, or is refused")
def _():
    here = MACHINE / "both"
    here.mkdir()
    (here / "first").write_text("from the machine")
    with bound(idle().with_volume_mapping(here, "/data", "rw")) as container:
        if not container:
            return
        same(container.exec("cat /data/first").output, b"from the machine")
        same(container.exec("sh -c 'echo inside > /data/second'").exit_code, 0)
        same((here / "second").read_text(), "inside\n")
        (here / "first").write_text("changed")
        same(container.exec("cat /data/first").output, b"changed")
        wrapped = container.get_wrapped_container()
        wrapped.reload()
        shown = [(mount["Type"], mount["Source"], mount["Destination"], mount["RW"]) for mount in wrapped.attrs["Mounts"]]
        same(shown, [("bind", str(here), "/data", True)])
    same(sorted(os.listdir(here)), ["first", "second"])


@behaviour("a single file, read-only if nothing is said, or it is refused")
def _():
    file = MACHINE / "init.sh"
    text = "echo it was run; sleep 1000\n"
    file.write_text(text)
    given = DockerContainer("busybox").with_command("sh /init/init.sh").with_volume_mapping(str(file), "/init/init.sh")
    with bound(given.waiting_for(LogMessageWaitStrategy("it was run"))) as container:
        if container:
            assert container.exec("sh -c 'echo no > /init/init.sh'").exit_code != 0
            same(file.read_text(), text)


@behaviour("a missing source is made, or is refused")
def _():
    missing = MACHINE / "made/deep"
    given = script("echo made > /data/file; echo done; sleep 1000").with_volume_mapping(str(missing), "/data", "rw")
    with bound(given.waiting_for(LogMessageWaitStrategy("done"))) as container:
        same(missing.parent.exists(), container is not None)
        if container:
            same((missing / "file").read_text(), "made\n")


@behaviour("stop removes the container")
def _():
    container = idle().start()
    ident = container.get_wrapped_container().id
    container.stop()
    try:
        docker.from_env().containers.get(ident)
    except docker.errors.NotFound:
        return
    raise AssertionError("it is still there")


@behaviour("wait for the end, with the exit code")
def _():
    container = script("echo bye; exit 4").start()
    same(container.wait(), 4)
    same(container.get_logs()[0], b"bye\n")
    container.stop()


@behaviour("standard output and error of the log apart")
def _():
    container = script("echo out; echo err >&2").start()
    container.wait()
    logs = container.get_logs()
    container.stop()
    same(logs, (b"out\n", b"err\n"))


@behaviour("what cannot start says why")
def _():
    for container, word in ((DockerContainer("busybox").with_command("nosuchprogram"), "nosuchprogram"), (DockerContainer("no/such:1"), "no/such")):
        try:
            container.start()
        except docker.errors.APIError as error:
            assert word in str(error), error
        else:
            raise AssertionError("no error")


@behaviour("ten containers at a time")
def _():
    failures = []

    def one(number):
        try:
            with DockerContainer("nginx").with_exposed_ports(80) as server:
                assert "Welcome" in get(url(server), tries=20), number
        except Exception as error:
            failures.append(f"{number}: {error}")

    threads = [threading.Thread(target=one, args=[number]) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    same(failures, [])


SESSION = """
import sys
from testcontainers.core.container import DockerContainer
from testcontainers.core.network import Network
network = Network().create()
container = DockerContainer("busybox").with_command("sleep 1000").with_network(network).start()
print(container.get_wrapped_container().id, network.id, flush=True)
import os
os._exit(0)
"""


@behaviour("the reaper removes what a session that died has left")
def _():
    left = subprocess.run([sys.executable, "-c", SESSION], capture_output=True, text=True, timeout=120)
    assert left.returncode == 0, left.stderr[-500:]
    container, network = left.stdout.split()
    client = docker.from_env()
    client.containers.get(container)
    end = time.monotonic() + 40
    while time.monotonic() < end:
        there = client.containers.list(all=True, ignore_removed=True, filters={"id": container}) or client.networks.list(ids=[network])
        reapers = client.containers.list(
            all=True, ignore_removed=True, filters={"ancestor": os.environ["RYUK_CONTAINER_IMAGE"]}
        )
        if not there and len(reapers) <= 1:
            return
        time.sleep(0.5)
    raise AssertionError(f"still there: {there}, {reapers}")


def main():
    print(f"# testcontainers-python {version('testcontainers')}", flush=True)
    failed = run()
    Reaper.delete_instance()
    shutil.rmtree(MACHINE)
    sys.exit(failed > 0)


main()
