"""What can be said about a bind after its target or by --mount: access, labels, propagation, recursion."""

from . import machine
from .suites import case

GROUP = "options"
# What the mount is inside: read-only or not, and how it takes part in the machine's mounts.
ACCESS = "touch /x/made 2>/dev/null && echo writable || echo read-only"
PROPAGATION = (
    'awk \'$5 == "/x" { p = "private"; if ($7 != "-") { p = $7; if ($8 != "-") p = p " " $8; '
    'gsub(/:[0-9]+/, "", p) } print p }\' /proc/self/mountinfo'
)


def seen_of(engine, *options):
    name, ended = engine.running(*options)
    seen = {"exit": ended.code, "container": engine.state(name)}
    if ended.code:
        return seen | {"says": ended.says()}
    return seen | {"access": engine.inside(name, ACCESS), "propagation": engine.inside(name, PROPAGATION), "told": engine.mounts(name)}


def add(group_words, all_words, source):
    @case(GROUP, group_words)
    def _(engine, folder):
        machine.make(folder / "source")
        return {words: seen_of(engine, "-v", f"{folder / source}:/x:{words}") for words in all_words}


add(
    "access and labels",
    ("ro", "rw", "ro,z", "rw,Z", "z", "Z", "z,Z", "ro,Z,rslave", "cached", "delegated", "consistent", "ro,cached", "cached,delegated"),
    "source",
)
add(
    "that exclude one another, are unknown or empty",
    (
        "ro,rw",
        "foo",
        "ro,foo",
        "nocopy",
        "ro,nocopy",
        "RO",
        "",
        ",",
        "ro,",
        "ro,ro",
        "ro:rw",
        "volume-nocopy",
        "exec",
        "noexec",
        "nosuid",
        "U",
    ),
    "source",
)
add(
    "propagation on a shared mount",
    ("rshared", "shared", "rslave", "slave", "rprivate", "private", "shared,slave", "rslave,ro", "rslave,rslave", "unbindable"),
    "source",
)


@case(GROUP, "propagation on a mount that is private")
def _(engine, folder):
    source = machine.make(folder / "private")
    machine.mount("--bind", source, source)
    machine.mount("--make-private", source)
    return {words: seen_of(engine, "-v", f"{source}:/x:{words}") for words in ("rshared", "rslave", "rprivate", "ro,slave")}


@case(GROUP, "on a source that is missing, a volume, no source")
def _(engine, folder):
    seen = {f"missing {words}": seen_of(engine, "-v", f"{folder}/missing-{words}:/x:{words}") for words in ("ro", "z", "foo", "rslave")}
    volume = engine.name()
    seen |= {f"volume {words}": seen_of(engine, "-v", f"{volume}:/x:{words}") for words in ("rslave", "z", "cached", "ro,nocopy")}
    return seen | {"machine": machine.tree(folder)}


@case(GROUP, "by --mount")
def _(engine, folder):
    machine.make(folder / "source")
    seen = {}
    for words in (
        "readonly",
        "ro",
        "readonly=false",
        "readonly=maybe",
        "bind-propagation=rslave",
        "bind-propagation=rshared",
        "bind-propagation=foo",
        "consistency=cached",
        "bind-nonrecursive",
        "bind-recursive=enabled",
        "bind-recursive=disabled",
        "bind-recursive=writable",
        "readonly,bind-recursive=writable",
        "bind-recursive=readonly",
        "readonly,bind-recursive=readonly",
        "readonly,bind-propagation=rprivate,bind-recursive=readonly",
        "readonly,bind-propagation=rslave,bind-recursive=readonly",
        "bind-recursive=foo",
        "volume-nocopy",
        "tmpfs-size=1m",
        "bind-foo=1",
        "foo",
        "z",
    ):
        seen[words] = seen_of(engine, "--mount", f"type=bind,source={folder}/source,target=/x,{words}")
    for words in (
        "type=bind,src={},dst=/x",
        "type=bind,source={},destination=/x",
        "type=BIND,source={},target=/x",
        "type=foo,source={},target=/x",
        "source={},target=/x",
        "type=bind,source={},target=/x,target=/y",
    ):
        seen[words] = seen_of(engine, "--mount", words.format(folder / "source"))
    return seen


def mount_below(folder):
    machine.make(folder / "source/below")
    machine.mount("-t", "tmpfs", "below", folder / "source/below")
    machine.write(folder / "source/below/file", "below\n")


RECURSION = "cat /x/below/file; touch /x/made; touch /x/below/made; rm -f /x/made /x/below/made"


@case(GROUP, "a mount below the source", needs_shared_root=True)
def _(engine, folder):
    mount_below(folder)
    seen = {words: engine.once("-v", f"{folder}/source:/x{words}", script=RECURSION) for words in ("", ":ro", ":ro,rslave", ":private")}
    for words in (
        "readonly",
        "bind-nonrecursive",
        "bind-recursive=disabled",
        "readonly,bind-recursive=disabled",
        "readonly,bind-recursive=writable",
        "readonly,bind-propagation=rprivate,bind-recursive=readonly",
    ):
        seen[words] = engine.once("--mount", f"type=bind,source={folder}/source,target=/x,{words}", script=RECURSION)
    return seen


@case(GROUP, "a mount made below the source later", needs_shared_root=True)
def _(engine, folder):
    seen = {}
    for words in ("", "rprivate", "rslave", "ro,rslave", "rshared"):
        source = machine.make(folder / f"source-{words}")
        machine.make(source / "below")
        name, ended = engine.running("-v", f"{source}:/x:{words}" if words else f"{source}:/x")
        machine.mount("-t", "tmpfs", "below", source / "below")
        machine.write(source / "below/file", "below\n")
        inside = engine.inside(name, "cat /x/below/file; touch /x/below/made")
        machine.unmount(source / "below")
        after = engine.inside(name, "ls /x/below")
        seen[words] = {"run": ended.code, "inside": inside, "after it has gone": after, "machine": machine.tree(source)}
    return seen


@case(GROUP, "a mount made inside", needs_shared_root=True)
def _(engine, folder):
    seen = {}
    for words in ("rprivate", "rslave", "rshared"):
        source = machine.make(folder / f"source-{words}")
        machine.make(source / "below")
        name, ended = engine.running("--privileged", "-v", f"{source}:/x:{words}")
        inside = engine.inside(name, "mount -t tmpfs inner /x/below && touch /x/below/file && ls /x/below")
        seen[words] = {"run": ended.code, "says": ended.says(), "inside": inside, "machine": machine.tree(source)}
        engine.docker("rm", "-f", name)
        seen[words]["after rm"] = machine.tree(source)
        machine.unmount(source / "below")
    return seen


@case(GROUP, "a read-only container and a privileged one")
def _(engine, folder):
    machine.make(folder / "source")
    script = "touch /x/made && echo made; touch /made"
    seen = {"read-only": engine.once("--read-only", "-v", f"{folder}/source:/x", script=script)}
    seen["privileged"] = engine.once("--privileged", "-v", f"{folder}/source:/x", script=script)
    seen["privileged, bind read-only"] = engine.once("--privileged", "-v", f"{folder}/source:/x:ro", script="touch /x/made")
    seen["read-only, its place is missing"] = engine.once(
        "--read-only", "-v", f"{folder}/source:/new/place", script="touch /new/place/made && echo made"
    )
    return seen | {"machine": machine.tree(folder)}
