"""Asks one Docker engine, by the command line and by its API, and makes what it says comparable.

Whatever differs from run to run or from engine to engine by chance (folders of a run, identifiers, names) is replaced by a word."""

import http.client
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request

LIMIT_SECONDS = 90
COMPOSE_ENVIRONMENT = {"COMPOSE_MENU": "0", "COMPOSE_PROGRESS": "plain", "NO_COLOR": "1", "COMPOSE_ANSI": "never"}
# runc and containerd wrap the reason that a person reads; the wrapping says nothing about what happened.
WRAPPING = re.compile(
    r"(failed to create task for container: |failed to create shim task: |OCI runtime create failed: |runc create failed: |"
    r"unable to start container process: |error during container init: )"
)
TIMES = re.compile(r'time="[^"]*" level=')
# Which of them is told first is a matter of chance.
SETTINGS = re.compile(r"/proc/sys/net/ipv4/[a-z_]+")
DESCRIPTORS = re.compile(r"mount src=\S+, dst=\S+, dstFd=\S+, flags=\S+: ")
ADVICE = re.compile(r"^(docker: |unable to |See 'docker |Run 'docker |Usage:|\s*$)")
# A path of the engine's own: a container's root file system, a volume's folder.
ENGINES_PATHS = [
    (re.compile(r'/[^\s"]*/rootfs/overlayfs/<id>'), "<rootfs>"),
    (re.compile(r'/[^\s"]*/volumes/[^\s"/]+/_data'), "<volume>"),
]
MOUNT_FIELDS = ("Type", "Source", "Destination", "Mode", "RW", "Propagation")


class Ended:
    """What a command has printed, and its exit code."""

    def __init__(self, engine, code, out, err):
        self.engine, self.code, self.out, self.err = engine, code, out, err

    def says(self):
        """What the command complained about, without advice and without what is of this run."""
        lines = [line.removeprefix("docker: ") for line in self.err.splitlines()]
        return self.engine.plain(" ".join(line.strip() for line in lines if line.strip() and not ADVICE.match(line)))

    def seen(self):
        """The exit code, with the output or the complaint: an observation."""
        return {"exit": self.code, "out": self.engine.plain(self.out.strip())} | ({"says": self.says()} if self.code else {})


class Engine:
    """One engine, with the names of one run on it."""

    def __init__(self, host, run):
        self.host, self.run = host, run
        self.address = urllib.parse.urlsplit(host)
        self.replaced = []
        self.made = 0

    def docker(self, *words, stdin="", cwd=None, seconds=LIMIT_SECONDS, **environment):
        """Runs the docker command with these words: one text is split at blanks, several are taken as they are."""
        if len(words) == 1:
            words = words[0].split()
        environment = {**os.environ, **COMPOSE_ENVIRONMENT, "DOCKER_HOST": self.host, **environment}
        command = ["docker", *map(str, words)]
        try:
            ended = subprocess.run(
                command, input=stdin, capture_output=True, text=True, errors="replace", cwd=cwd, env=environment, timeout=seconds
            )
        except subprocess.TimeoutExpired as error:
            return Ended(
                self, "no end", (error.stdout or b"").decode(errors="replace"), f"not ended within {seconds} s: {' '.join(command)}"
            )
        return Ended(self, ended.returncode, ended.stdout, ended.stderr)

    def is_docker(self):
        """Whether this is a Docker Engine, and not one that translates to Kubernetes."""
        return "d2k" not in json.dumps(self.ask("GET", "/version"))

    def name(self):
        """The name of a new container or volume, which is removed at the end."""
        self.made += 1
        return f"{self.run}-{self.made}"

    def ask(self, method, path, body=None):
        """A request to the API: the status, and the answer as JSON."""
        connection = http.client.HTTPConnection(self.address.hostname, self.address.port, timeout=LIMIT_SECONDS)
        headers = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
        connection.close()
        try:
            return answer.status, json.loads(text) if text else None
        except json.JSONDecodeError:
            return answer.status, text

    def plain(self, value):
        """The value with all texts in it free of what is of this run or of this engine by chance."""
        if isinstance(value, dict):
            return {self.plain(key): self.plain(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.plain(inner) for inner in value]
        if not isinstance(value, str):
            return value
        for found, word in sorted(self.replaced, key=lambda pair: -len(pair[0])):
            value = value.replace(found, word)
        value = WRAPPING.sub("", value)
        value = TIMES.sub("", value)
        value = DESCRIPTORS.sub("", value)
        value = SETTINGS.sub("/proc/sys/net/ipv4/<setting>", value)
        value = re.sub(r"\b[0-9a-f]{64}\b|\b[0-9a-f]{12}\b", "<id>", value)
        value = re.sub(rf"{re.escape(self.run)}-\d+", "<name>", value).replace(self.run, "<run>")
        for pattern, word in ENGINES_PATHS:
            value = pattern.sub(word, value)
        return value

    def inspect(self, container):
        """What the engine tells about a container, or nothing where there is none."""
        status, told = self.ask("GET", f"/containers/{container}/json")
        return told if status == 200 else None

    def mounts(self, container):
        """What the engine tells about a container's mounts, in three places."""
        told = self.inspect(container)
        if told is None:
            return "no container"
        rows = [{field: row.get(field) for field in MOUNT_FIELDS} for row in told["Mounts"]]
        for row in rows:
            if row["Type"] == "volume":
                row["Source"] = "<volume>"
        host = told["HostConfig"]
        asked = {"Binds": sorted(host.get("Binds") or []), "Mounts": sorted(host.get("Mounts") or [], key=lambda m: m["Target"])}
        return self.plain({"mounts": sorted(rows, key=lambda row: row["Destination"]), **asked})

    def state(self, container):
        """The state of a container in words: gone, or its status with its exit code where it has one."""
        told = self.inspect(container)
        if told is None:
            return "gone"
        status, code = told["State"]["Status"], told["State"]["ExitCode"]
        return f"{status} {code}" if status == "exited" or code else status

    def once(self, *options, script="true", image="busybox", **settings):
        """What comes of a container with these options that runs a script: an observation."""
        name = self.name()
        ended = self.docker("run", "--name", name, *options, image, "sh", "-c", f"{{ {script}\n}} 2>&1", **settings)
        return ended.seen() | {"container": self.state(name)}

    def running(self, *options, image="busybox", **settings):
        """A container with these options that goes on running, with how its `run` ended."""
        name = self.name()
        return name, self.docker("run", "-d", "--name", name, "--stop-signal", "KILL", *options, image, "sleep", "1000", **settings)

    def inside(self, container, script, user=None):
        """What a shell inside a running container prints for the script: an observation.

        An engine hands its own umask to an exec, which is a matter of how it was started."""
        words = ["exec", *(["-u", user] if user else []), container, "sh", "-c", f"umask 022\n{{ {script}\n}} 2>&1"]
        ended = self.docker(*words)
        return self.plain(ended.out.strip()) if ended.out.strip() or not ended.code else ended.seen()

    def get(self, port, path="/"):
        """What the machine gets from a published port, tried until the service answers."""
        if not port:
            return "no port"
        url = f"http://{self.address.hostname}:{port}{path}"
        error = None
        for _ in range(60):
            try:
                with urllib.request.urlopen(url, timeout=5) as answer:
                    return self.plain(answer.read().decode(errors="replace").strip())
            except urllib.error.HTTPError as refused:
                return f"status {refused.code}"
            except OSError as failed:
                error = failed
                time.sleep(0.25)
        return f"no answer: {type(error).__name__}"

    def clean(self):
        """Removes what this run has made, the containers that took volumes from another one before that one."""
        for number in range(self.made, 0, -1):
            self.ask("DELETE", f"/containers/{self.run}-{number}?force=1&v=1")
        for number in range(1, self.made + 1):
            self.ask("DELETE", f"/volumes/{self.run}-{number}?force=1")


def until(condition, seconds=20):
    """The first true answer of the condition, or its last one."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.2)
