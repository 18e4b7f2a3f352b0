"""What there is to do, and how it is told: a suite is a list of steps, each with observations under names.

A project is one suite whose steps follow one another; the plain cases are suites whose steps are independent."""

import pathlib
import time
import traceback

from . import machine

HERE = pathlib.Path(__file__).resolve().parent
PROJECTS = HERE.parent / "projects"
found = {}


class Suite:
    """Steps with one file of expectations."""

    def __init__(self, name, expected):
        self.name, self.expected, self.steps = name, expected, []


def project(name, needs_shared_root=False):
    """Adds a project of `projects/`, driven by the function."""

    def add(function):
        suite = Suite(name, PROJECTS / name / "expected.json")
        suite.function, suite.needs_shared_root = function, needs_shared_root
        found[name] = suite
        return function

    return add


def case(group, name, needs_shared_root=False):
    """Adds a case without a project to a group; the function returns its observations."""

    def add(function):
        suite = found.setdefault(group, Suite(group, HERE / "expected" / f"{group}.json"))
        suite.steps.append((name, function, needs_shared_root))
        return function

    return add


def drive(suite, engine, chosen, show):
    """Does all of a suite on an engine: step to observations."""
    if suite.expected.parent.parent == PROJECTS:
        return drive_project(suite, engine, show)
    seen = {}
    for name, function, needs_shared_root in suite.steps:
        if chosen and chosen not in name:
            continue
        if needs_shared_root and not machine.root_is_shared():
            show(f"# {suite.name}: {name}: left out, the root of this machine is mounted private")
            continue
        begin = time.monotonic()
        with machine.folder() as folder:
            engine.replaced = [(str(folder), "<dir>")]
            seen[name] = engine.plain(told(lambda: function(engine, folder)))
            engine.clean()
        show(f"# {suite.name}: {name}: {time.monotonic() - begin:.1f} s")
    return seen


def told(function):
    """The observations of a function, or why there are none."""
    try:
        return function()
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return {"failed": f"{type(error).__name__}: {error} ({pathlib.Path(where.filename).name}:{where.lineno})"}


def drive_project(suite, engine, show):
    """Copies a project, drives it and removes it."""
    if suite.needs_shared_root and not machine.root_is_shared():
        show(f"# {suite.name}: left out, the root of this machine is mounted private")
        return None
    begin = time.monotonic()
    with machine.folder() as folder:
        place = Project(engine, suite.name, folder / suite.name)
        failed = told(lambda: suite.function(place))
        if failed:
            place.seen["end"] = failed
        place.end()
    show(f"# {suite.name}: {time.monotonic() - begin:.1f} s")
    return engine.plain(place.seen)


class Project:
    """A project's folder and its application on one engine."""

    def __init__(self, engine, name, folder):
        self.engine, self.folder = engine, folder
        self.project = f"{engine.run}{name}"
        self.environment = {"PROJECT_FOLDER": str(folder)}
        self.seen = {}
        machine.copy(PROJECTS / name, folder)
        engine.replaced = [(str(folder), "<dir>"), (self.project, "<project>")]

    def step(self, name, **observations):
        """Notes observations."""
        self.seen.setdefault(name, {}).update(observations)

    def compose(self, *words, stdin=""):
        """Runs Compose in the project's folder."""
        if len(words) == 1:
            words = words[0].split()
        return self.engine.docker("compose", "-p", self.project, *words, stdin=stdin, cwd=self.folder, **self.environment)

    def up(self, name="up", words="up -d --wait"):
        """Brings the application up: exit code, states, and what is told about each container's mounts."""
        ended = self.compose(words)
        self.step(name, exit=ended.code, states=self.states())
        self.complain(name, ended)

    def reasons(self, ended):
        """The lines of Compose's output that say why something failed."""
        lines = [line.strip() for line in ended.err.splitlines()]
        return self.engine.plain([line for line in lines if "rror" in line or "warning" in line])

    def containers(self):
        """Service to container, of those that `up` has made."""
        rows = self.engine.docker(
            "ps",
            "-a",
            "--no-trunc",
            "--filter",
            f"label=com.docker.compose.project={self.project}",
            "--format",
            '{{.Label "com.docker.compose.service"}} {{.ID}} {{.Label "com.docker.compose.oneoff"}}',
        ).out.splitlines()
        return {row.split()[0]: row.split()[1] for row in sorted(rows) if row.split()[2] == "False"}

    def states(self):
        """Service to state."""
        return {service: self.engine.state(container) for service, container in self.containers().items()}

    def mounts(self, name="mounts"):
        """Notes what is told about each container's mounts."""
        self.step(name, **{service: self.engine.mounts(container) for service, container in self.containers().items()})

    def inside(self, service, script, user=None):
        """What a shell in a service's container prints."""
        return self.engine.inside(self.containers().get(service, "none"), script, user)

    def port(self, service, port):
        """The machine's port for a service's port."""
        return self.compose("port", service, str(port)).out.strip().rpartition(":")[2] or 0

    def again(self):
        """Notes that a second `up` makes and starts nothing."""
        before = self.started()
        ended = self.compose("up -d --wait")
        self.step("up again", exit=ended.code, nothing_is_made_or_started=self.started() == before)
        self.complain("up again", ended)

    def restart(self, **looks):
        """Notes how a restart of all ends, and what is seen after it."""
        ended = self.compose("restart", "-t", "1")
        self.step("restart", exit=ended.code, **{name: look() for name, look in looks.items()})
        self.complain("restart", ended)

    def complain(self, name, ended):
        """Notes why a command failed."""
        if ended.code:
            self.step(name, says=self.reasons(ended))

    def started(self):
        """Container to the time when it was started."""
        return {container: self.engine.inspect(container)["State"]["StartedAt"] for container in self.containers().values()}

    def down(self):
        """Notes what `down` and `down -v` leave on the engine and on the machine."""
        for words in ("down", "down -v"):
            ended = self.compose(words)
            label = f"label=com.docker.compose.project={self.project}"
            volumes = self.engine.docker("volume", "ls", "-q", "--filter", label).out.split()
            self.step(words, exit=ended.code, containers=self.states(), volumes=sorted(volumes), machine=machine.tree(self.folder))
            self.complain(words, ended)

    def end(self):
        """Removes the application, whatever has become of it."""
        self.compose("--profile", "*", "down", "-v", "--remove-orphans", "-t", "1")
