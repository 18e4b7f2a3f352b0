"""What Compose's users do with an application of several services, each asserted against what a Docker engine answers.

Prints one line a behaviour. The behaviours follow one another on the same application; each says what it leaves."""

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
import uuid

from runner import behaviour, run, same, until

HERE = pathlib.Path(__file__).resolve().parent
RUN = uuid.uuid4().hex[:6]
PROJECT = f"shop{RUN}"
ENVIRONMENT = {**os.environ, "PASSWORD": "s3cret", "COMPOSE_MENU": "0", "COMPOSE_PROGRESS": "plain", "NO_COLOR": "1"}
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="d2k-compose-"))
LIMIT = 120
EMBEDDED = os.environ.get("D2K_CLIENTS_CLUSTER") == "embedded"
projects = [{"project": PROJECT}, {"project": f"other{RUN}"}]


class Ended:
    """What a command has printed, and its exit code."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __repr__(self):
        return f"`{self.command}` ended with {self.code}: {self.out[-600:]} {self.err[-600:]}"

    def well(self):
        assert self.code == 0, repr(self)
        return self.out


def docker(words, stdin="", **environment):
    command = f"docker {words}"
    ended = subprocess.run(
        ["timeout", "-s", "KILL", str(LIMIT), "bash", "-c", command],
        input=stdin,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, **environment},
    )
    return Ended(command, ended.returncode, ended.stdout, ended.stderr)


def compose(words, stdin="", project=PROJECT, file=HERE / "application.yaml", **environment):
    return docker(f"compose -p {project} -f {file} {words}", stdin, **environment)


def written(name, text):
    """A compose file of a project of its own."""
    file = FOLDER / f"{name}.yaml"
    file.write_text(text)
    made = {"project": f"{name}{RUN}", "file": file}
    projects.append(made)
    return made


def states(**other):
    rows = compose("ps -a --format json", **other).well().splitlines()
    return {row["Name"].split("-", 1)[1]: row for row in map(json.loads, rows)}


def ids():
    return {name: row["ID"] for name, row in states().items()}


def has(text, *words):
    for word in words:
        assert word in text, f"{word!r} is not in {text!r}"


def port_of(service):
    address = compose(f"port {service} 80").well().strip()
    host = urllib.parse.urlsplit(os.environ["DOCKER_HOST"]).hostname
    return f"http://{host}:{address.rsplit(':', 1)[1]}/"


def in_a_terminal(words, file, project, keys, insists=False, seconds=60):
    """Runs compose in a terminal and presses Ctrl-C each time one of the words of `keys` has appeared, the last time again and again."""
    command = ["docker", "compose", "-p", project, "-f", str(file), *words.split()]
    pid, terminal = pty.fork()
    if pid == 0:
        # Compose hands the second Ctrl-C on only where it has its menu.
        os.execvpe(command[0], command, {**ENVIRONMENT, "COMPOSE_MENU": "1", "COMPOSE_PROGRESS": "auto"})
    seen, searched, begin, pressed, keys = "", 0, time.monotonic(), 0, list(keys)
    while time.monotonic() - begin < seconds:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            if not data:
                break
            seen += re.sub(r"\x1b[\[\]0-9;?]*[a-zA-Z0-9]", "", data.decode(errors="replace"))
        if keys and keys[0] in seen[searched:]:
            searched = len(seen)
            keys.pop(0)
            time.sleep(0.5)
            os.write(terminal, b"\x03")
            pressed = time.monotonic()
        # On a busy machine Compose may miss one: then no request comes of it.
        if insists and not keys and time.monotonic() - pressed > 4:
            os.write(terminal, b"\x03")
            pressed = time.monotonic()
    else:
        os.kill(pid, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return seen, code, time.monotonic() - begin


@behaviour("config and pull")
def _():
    has(compose("config --services").well(), "db", "web", "worker")
    compose("pull").well()


@behaviour("up -d waits for health and completion, in order")
def _():
    compose("up -d").well()
    now = states()
    same(now["db-1"]["Health"], "healthy")
    same((now["migrate-1"]["State"], now["migrate-1"]["ExitCode"]), ("exited", 0))
    same((now["web-1"]["State"], now["worker-1"]["State"]), ("running", "running"))
    assert "tools-1" not in now


@behaviour("a service finds another by its name and its aliases")
def _():
    out = compose("logs --no-log-prefix migrate").well()
    same(out.split(), [f"db-of-{PROJECT}", f"db-of-{PROJECT}", "migrated"])


@behaviour("a second up recreates nothing and starts nothing again")
def _():
    before = ids()
    started = docker(f"inspect -f '{{{{.State.StartedAt}}}}' {PROJECT}-web-1").well()
    compose("up -d").well()
    same(ids(), before)
    same(docker(f"inspect -f '{{{{.State.StartedAt}}}}' {PROJECT}-web-1").well(), started)


@behaviour("secrets and configs are there when the process starts")
def _():
    same(compose("exec -T db cat /run/secrets/password").well(), "s3cret")
    same(compose("exec -T db cat /etc/app.conf").well().strip(), "key=value")
    has(compose("exec -T db ls -l /etc/app.conf").well(), "-r--r-----")


@behaviour("environment, env_file, extra_hosts, tmpfs, user, working_dir, tty and init")
def _():
    has(compose("exec -T web env").well(), "SHADE=dark", "FROM_FILE=yes")
    has(compose("exec -T web cat /etc/hosts").well(), "10.1.2.3", "elsewhere")
    has(compose("exec -T web df /cache").well(), "tmpfs")
    has(compose("exec -T worker id").well(), "uid=1000 gid=1000")
    same(compose("exec -T worker pwd").well().strip(), "/tmp")
    container = json.loads(docker(f"inspect {PROJECT}-worker-1").well())[0]
    same((container["Config"]["Tty"], container["Config"]["OpenStdin"]), (True, True))
    same(json.loads(docker(f"inspect {PROJECT}-web-1").well())[0]["HostConfig"]["Init"], True)


@behaviour("deploy.resources become limits")
def _():
    host = json.loads(docker(f"inspect {PROJECT}-db-1").well())[0]["HostConfig"]
    same((host["NanoCpus"], host["Memory"], host["MemoryReservation"]), (500_000_000, 64 << 20, 16 << 20))


@behaviour("a published port is told by port and answers")
def _():
    has(until("it answers", lambda: urllib.request.urlopen(port_of("web"), timeout=5).read().decode(), 45), "nginx")


@behaviour("ps, ls, top, images, stats and volumes")
def _():
    has(compose("ps").well(), f"{PROJECT}-db-1", "(healthy)")
    has(compose("ls").well(), PROJECT, "running(3)")
    has(compose("top db").well(), "httpd")
    has(compose("images").well(), "busybox", "nginx")
    has(compose("stats --no-stream").well(), f"{PROJECT}-web-1")
    has(compose("volumes").well(), f"{PROJECT}_data")


@behaviour("exec passes input, output and the exit code")
def _():
    same(compose("exec -T db sh -c 'cat; exit 5'", stdin="given").code, 5)
    same(compose("exec -T db cat", stdin="given").well(), "given")


@behaviour("run --rm uses a fresh container and its exit code")
def _():
    same(compose("run --rm -T --no-deps db sh -c 'cat /run/secrets/password; exit 9'").code, 9)
    same(compose("run --rm -T --no-deps worker cat", stdin="given").well(), "given")
    same(compose("run --rm -T --no-deps worker wget -q -O- http://db:5432/").well().strip(), f"db-of-{PROJECT}")
    assert all("run" not in name for name in states()), states()


@behaviour("cp both ways")
def _():
    file = FOLDER / "file"
    file.write_text("content")
    compose(f"cp {file} web:/tmp/file").well()
    same(compose("exec -T web cat /tmp/file").well(), "content")
    compose(f"cp web:/tmp/file {FOLDER}/back").well()
    same((FOLDER / "back").read_text(), "content")


@behaviour("logs of all services and logs -f that ends with the container")
def _():
    has(compose("logs --no-color").well(), "migrate-1", "worker-1", "working")
    follow = subprocess.Popen(
        ["docker", "compose", "-p", PROJECT, "-f", HERE / "application.yaml", "logs", "-f", "--no-color", "worker"],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    time.sleep(1)
    compose("stop worker").well()
    out, _ = follow.communicate(timeout=30)
    has(out, "worker-1", "working")


@behaviour("stop, start, restart, kill and wait")
def _():
    same(states()["worker-1"]["State"], "exited")
    compose("start worker").well()
    same(states()["worker-1"]["State"], "running")
    compose("restart -t 1 worker").well()
    same(states()["worker-1"]["State"], "running")
    waiting = subprocess.Popen(
        ["docker", "compose", "-p", PROJECT, "-f", HERE / "application.yaml", "wait", "worker"],
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    time.sleep(1)
    compose("kill worker").well()
    out, _ = waiting.communicate(timeout=30)
    same(waiting.returncode, 137)
    until("it is killed", lambda: states()["worker-1"]["ExitCode"] == 137, 45)


@behaviour("events are told in Docker's order")
def _():
    since = f"{time.time():.3f}"
    compose("up -d worker").well()
    compose("restart -t 1 worker").well()
    compose("kill worker").well()
    until("the end is told", lambda: "die" in actions(since)[-2:], 45)
    told = actions(since)
    in_order(told, "start", "kill", "stop", "start", "restart", "kill", "die")
    same(told.count("die"), 2)
    same(told.count("start"), 2)


def actions(since):
    form = "'{{.Action}}'"
    scope = f"--filter type=container --filter container={PROJECT}-worker-1"
    out = docker(f"events --since {since} --until {time.time() + 0.5:.3f} {scope} --format {form}").well()
    return out.split("\n")[:-1]


def in_order(got, *wanted):
    rest = iter(got)
    assert all(word in rest for word in wanted), f"{wanted} not in this order in {got}"


@behaviour("pause and unpause, or a refusal that says why")
def _():
    paused = compose("pause web")
    if paused.code == 0:
        has(compose("ps web").well(), "Paused")
        compose("unpause web").well()
        has(compose("ps web").well(), "Up")
    else:
        has(paused.err, "helper")


@behaviour("rm, scale up and down, up --scale")
def _():
    compose("rm -fs worker").well()
    assert "worker-1" not in states()
    compose("up -d --scale worker=3 worker").well()
    same(sorted(n for n in states() if n.startswith("worker")), ["worker-1", "worker-2", "worker-3"])
    compose("scale worker=1").well()
    same([n for n in states() if n.startswith("worker")], ["worker-1"])


@behaviour("a change recreates its service and no other")
def _():
    before = ids()
    compose("up -d", SHADE="light").well()
    after = ids()
    assert before["web-1"] != after["web-1"]
    same({n: i for n, i in before.items() if n != "web-1"}, {n: i for n, i in after.items() if n != "web-1"})
    has(compose("exec -T web env").well(), "SHADE=light")


@behaviour("up --force-recreate keeps the volume")
def _():
    compose("exec -T db sh -c 'echo kept > /data/kept'").well()
    before = ids()["db-1"]
    compose("up -d --no-deps --force-recreate db").well()
    assert ids()["db-1"] != before
    same(compose("exec -T db cat /data/kept").well().strip(), "kept")


@behaviour("a profile's service comes only when asked for, and knows another by a link")
def _():
    compose("--profile tools up -d tools").well()
    same(states()["tools-1"]["State"], "running")
    same(compose("--profile tools exec -T tools wget -q -O- http://store:5432/").well().strip(), f"db-of-{PROJECT}")


@behaviour("two projects have a db each")
def _():
    other = f"other{RUN}"
    compose("up -d db", project=other).well()
    for project in (PROJECT, other):
        ask = "run --rm -T --no-deps worker wget -q -O- http://db:5432/"
        # Its server starts a second after its container.
        until(f"db of {project}", lambda: compose(ask, project=project).out.strip() == f"db-of-{project}", 45)
    compose("down -v", project=other).well()


@behaviour("down leaves nothing but the volume, down -v nothing")
def _():
    compose("--profile tools down --remove-orphans").well()
    same(states(), {})
    same(docker(f"network ls -q --filter label=com.docker.compose.project={PROJECT}").well(), "")
    same(docker(f"volume ls -q --filter label=com.docker.compose.project={PROJECT}").well().split(), [f"{PROJECT}_data"])
    compose("down -v").well()
    same(docker(f"volume ls -q --filter label=com.docker.compose.project={PROJECT}").well(), "")


TALKERS = """
services:
  polite: {image: busybox, command: "sh -c 'trap \\"echo asked; exit 0\\" TERM; while :; do echo here; sleep 0.3; done'"}
  stubborn: {image: busybox, command: "sh -c 'trap : TERM; while :; do echo present; sleep 0.3; done'", stop_grace_period: 40s}
  short: {image: busybox, command: "sh -c 'echo done; exit 3'"}
"""


@behaviour("up in the foreground shows all output, and Ctrl-C stops")
def _():
    talkers = written("talkers", TALKERS.replace("40s", "1s"))
    seen, _, _ = in_a_terminal("up", keys=["short-1 exited with code 3"], **talkers)
    has(seen, "polite-1", "here", "stubborn-1", "present", "short-1", "done", "Gracefully", "asked")
    now = states(**talkers)
    same({row["State"] for row in now.values()}, {"exited"})
    same((now["polite-1"]["ExitCode"], now["stubborn-1"]["ExitCode"]), (0, 137))
    compose("down", **talkers).well()


@behaviour("a second Ctrl-C kills at once")
def _():
    talkers = written("talkers", TALKERS)
    keys = ["short-1 exited with code 3", "Gracefully"]
    # In about one of four runs Compose takes the second Ctrl-C and all that follow and asks for no kill, so that
    # nothing is shown about the engine. Its requests tell: a kill that was asked for must end the container.
    for attempt in range(5):
        began = int(time.time())
        _, _, took = in_a_terminal("up", keys=keys, insists=True, **talkers)
        look = f"events --since {began} --until {int(time.time()) + 1} --filter event=kill"
        signals = docker(f"{look} --format '{{{{.Actor.Attributes.signal}}}}'").well().split()
        if "9" in signals:
            break
        compose("down", **talkers).well()
    assert "9" in signals, f"Compose asked for no kill in {attempt + 1} runs"
    assert took < 35, f"{took} s"
    same(states(**talkers)["stubborn-1"]["ExitCode"], 137)
    compose("down", **talkers).well()


@behaviour("up --exit-code-from and --abort-on-container-failure")
def _():
    talkers = written("talkers", TALKERS.replace("40s", "1s"))
    same(compose("up --exit-code-from short", **talkers).code, 3)
    compose("down", **talkers).well()
    same(compose("up --abort-on-container-failure", **talkers).code, 3)
    compose("down", **talkers).well()


def refused(name, text, *words, command="up -d", **environment):
    project = written(name, text)
    ended = compose(command, **project, **environment)
    assert ended.code != 0, repr(ended)
    has(ended.out + ended.err, *words)
    compose("down -v", **project).well()


@behaviour("a dependency that gets unhealthy or fails ends up")
def _():
    waits = "{image: busybox, command: sleep 100, depends_on: {first: {condition: %s}}}"
    check = "healthcheck: {test: exit 1, interval: 1s, retries: 2}, stop_grace_period: 1s"
    first = "services:\n  second: " + waits % "service_healthy"
    refused("sick", first + f"\n  first: {{image: busybox, command: sleep 100, {check}}}", "unhealthy")
    first = "services:\n  second: " + waits % "service_completed_successfully"
    refused("fails", first + '\n  first: {image: busybox, command: "false"}', "complete successfully: exit 1")


@behaviour("an image or a program that does not exist fails with Docker's words")
def _():
    refused("noimage", "services: {a: {image: nosuch/image:1}}", "pull access denied for nosuch/image")
    refused("noprogram", "services: {a: {image: busybox, command: nosuchprogram}}", "executable file not found")


@behaviour("binds are mounted or refused with what to do instead, and builds are refused")
def _():
    bound = "services: {a: {image: busybox, command: ls -d /x, volumes: ['./x:/x']}}"
    filed = "services: {a: {image: busybox, command: cat /run/secrets/s, secrets: [s]}}\nsecrets: {s: {file: ./filed.yaml}}"
    if EMBEDDED:
        has(compose("up", **written("bound", bound)).well(), "/x")
        has(compose("up", **written("filed", filed)).well(), "file: ./filed.yaml")
    else:
        refused("bound", bound, "bind mounts", "named volume")
        refused("filed", filed, "environment:", "content:")
    (FOLDER / "Dockerfile").write_text("FROM busybox\n")
    refused("built", "services: {a: {build: .}}", "push", command="build", DOCKER_BUILDKIT="0")


@behaviour("restart policies start again, and stop ends that")
def _():
    text = """
services:
  always: {image: busybox, command: "sh -c 'sleep 0.5; exit 2'", restart: always}
  failing: {image: busybox, command: "sh -c 'sleep 0.5; exit 2'", restart: "on-failure:1"}
  fine: {image: busybox, command: "true", restart: on-failure}
"""
    project = written("again", text)
    compose("up -d", **project).well()
    inspect = f"inspect -f '{{{{.RestartCount}}}} {{{{.State.Status}}}} {{{{.State.ExitCode}}}}' {project['project']}"
    until("it was started again", lambda: int(docker(f"{inspect}-always-1").well().split()[0]) >= 1, 45)
    until("it gave up", lambda: docker(f"{inspect}-failing-1").well().split() == ["1", "exited", "2"], 60)
    same(docker(f"{inspect}-fine-1").well().split(), ["0", "exited", "0"])
    compose("stop always", **project).well()
    same(docker(f"{inspect}-always-1").well().split()[1], "exited")
    compose("down", **project).well()


@behaviour("a container of a project can be created, changed and started later")
def _():
    project = written("later", "services: {a: {image: busybox, command: cat /note, networks: [n]}}\nnetworks: {n: {}}")
    compose("create", **project).well()
    same(states(**project)["a-1"]["State"], "created")
    (FOLDER / "note").write_text("noted\n")
    compose(f"cp {FOLDER}/note a:/note", **project).well()
    compose("start", **project).well()
    until("it has run", lambda: "noted" in compose("logs a", **project).well(), 45)
    compose("down", **project).well()


def main():
    failed = run()
    for project in projects:
        compose("--profile '*' down -v --remove-orphans -t 1", **project)
    sys.exit(failed > 0)


main()
