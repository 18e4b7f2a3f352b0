"""Binds as programs send them to the API, with what the command line would not let through."""

import json

from . import machine
from .suites import case

GROUP = "requests"


def create(engine, folder, host, **config):
    """What the engine answers to a create and to the start after it: an observation."""
    name = engine.name()
    (folder / "source/made").unlink(missing_ok=True)
    body = {"Image": "busybox", "Cmd": ["sh", "-c", "ls -a /x; touch /x/made"], "HostConfig": host, **config}
    status, answer = engine.ask("POST", f"/containers/create?name={name}", body)
    seen = {"create": status}
    if status != 201:
        return seen | {"says": answer["message"] if isinstance(answer, dict) else answer, "machine": machine.tree(folder)}
    seen["told"] = engine.mounts(name)
    status, answer = engine.ask("POST", f"/containers/{name}/start")
    seen |= {"warnings": engine.plain(answer) if status == 204 else [], "start": status}
    if status != 204:
        return seen | {
            "says": answer["message"] if isinstance(answer, dict) else answer,
            "container": engine.state(name),
            "machine": machine.tree(folder),
        }
    engine.ask("POST", f"/containers/{name}/wait")
    output = engine.docker("logs", name)
    return seen | {"out": output.out.split() + output.err.splitlines(), "container": engine.state(name), "machine": machine.tree(folder)}


def bind(engine, folder, *binds):
    return create(engine, folder, {"Binds": list(binds)})


def mount(engine, folder, **fields):
    return create(engine, folder, {"Mounts": [{"Type": "bind", "Source": str(folder / "source"), "Target": "/x", **fields}]})


@case(GROUP, "Binds")
def _(engine, folder):
    machine.write(folder / "source/file", "content\n")
    source = folder / "source"
    seen = {
        words: bind(engine, folder, words)
        for words in ("./rel:/x", "rel/deep:/x", "../rel:/x", "", ":", ":/x", "/x", f"{source}", f"{source}:", "~:/x", "C:\\x:/x")
    }
    seen |= {
        f"{words} of {at}": bind(engine, folder, f"{source}:{at}{words}")
        for at, words in (("x", ""), ("/", ""), ("/x", ":ro:rw"), ("/x", ":foo"), ("/x/", ""), ("/x/../x", ""))
    }
    seen["slash at the end"] = bind(engine, folder, f"{source}/:/x")
    seen["two"] = bind(engine, folder, f"{source}:/x", f"{source}:/x/")
    seen["not a list"] = create(engine, folder, {"Binds": f"{source}:/x"})
    seen["numbers"] = create(engine, folder, {"Binds": [1]})
    seen["null"] = create(engine, folder, {"Binds": None})
    return seen | {"the same as a volume of the container": create(engine, folder, {"Binds": [f"{source}:/x"]}, Volumes={"/x": {}})}


@case(GROUP, "Config.Volumes that look like binds")
def _(engine, folder):
    return {words: create(engine, folder, {}, Volumes={words: {}}) for words in (f"{folder}:/x", "rel", "/")}


@case(GROUP, "Mounts")
def _(engine, folder):
    machine.write(folder / "source/file", "content\n")
    seen = {
        "plain": mount(engine, folder),
        "no Source": mount(engine, folder, Source=None),
        "empty Source": mount(engine, folder, Source=""),
    }
    seen["relative Source"] = mount(engine, folder, Source="rel/deep")
    seen["relative Source with a dot"] = mount(engine, folder, Source="./rel")
    seen["no Target"] = mount(engine, folder, Target=None)
    seen["relative Target"] = mount(engine, folder, Target="x")
    seen["Target is the root"] = mount(engine, folder, Target="/")
    seen["Target with dots"] = mount(engine, folder, Target="/x/../x/")
    seen["Source with dots"] = mount(engine, folder, Source=f"{folder}/source/../source/")
    seen["missing Source"] = mount(engine, folder, Source=str(folder / "missing"))
    seen["no Type"] = mount(engine, folder, Type=None)
    seen["Type unknown"] = mount(engine, folder, Type="foo")
    seen["Type in capitals"] = mount(engine, folder, Type="BIND")
    seen["unknown field"] = mount(engine, folder, Foo=1)
    seen["ReadOnly"] = mount(engine, folder, ReadOnly=True)
    seen["ReadOnly is a word"] = mount(engine, folder, ReadOnly="yes")
    seen["Consistency"] = mount(engine, folder, Consistency="cached")
    seen["Consistency unknown"] = mount(engine, folder, Consistency="foo")
    return seen | {"Source is a colon name": mount(engine, folder, Source=str(machine.make(folder / "a:b")))}


@case(GROUP, "Mounts with options of other types")
def _(engine, folder):
    machine.make(folder / "source")
    seen = {
        "VolumeOptions": mount(engine, folder, VolumeOptions={"NoCopy": True}),
        "VolumeOptions empty": mount(engine, folder, VolumeOptions={}),
    }
    seen |= {
        "TmpfsOptions": mount(engine, folder, TmpfsOptions={"SizeBytes": 1 << 20}),
        "TmpfsOptions empty": mount(engine, folder, TmpfsOptions={}),
    }
    seen["ImageOptions"] = mount(engine, folder, ImageOptions={"Subpath": "x"})
    seen["ClusterOptions"] = mount(engine, folder, ClusterOptions={})
    seen["BindOptions of a volume"] = mount(engine, folder, Type="volume", Source=engine.name(), BindOptions={"Propagation": "rslave"})
    seen["BindOptions of tmpfs"] = mount(engine, folder, Type="tmpfs", Source="", BindOptions={"Propagation": "rslave"})
    return seen | {"a path as a volume": mount(engine, folder, Type="volume")}


@case(GROUP, "BindOptions")
def _(engine, folder):
    machine.make(folder / "source")
    asked = [
        {},
        {"Propagation": ""},
        {"CreateMountpoint": False},
        {"NonRecursive": True},
        {"ReadOnlyNonRecursive": True},
        {"ReadOnlyForceRecursive": True},
        {"Foo": 1},
    ]
    asked += [{"Propagation": word} for word in ("rprivate", "private", "rslave", "slave", "rshared", "shared", "foo", "RSLAVE")]
    asked += [{"ReadOnlyNonRecursive": True, "ReadOnlyForceRecursive": True}, {"Propagation": 1}]
    seen = {json.dumps(options): mount(engine, folder, BindOptions=options) for options in asked}
    asked = [
        {"ReadOnlyNonRecursive": True},
        {"ReadOnlyForceRecursive": True},
        {"ReadOnlyForceRecursive": True, "Propagation": "rprivate"},
        {"ReadOnlyNonRecursive": True, "ReadOnlyForceRecursive": True},
    ]
    asked += [
        {"ReadOnlyForceRecursive": True, "Propagation": "rslave"},
        {"ReadOnlyForceRecursive": True, "NonRecursive": True},
        {"ReadOnlyNonRecursive": True, "NonRecursive": True},
    ]
    return seen | {f"ReadOnly {json.dumps(options)}": mount(engine, folder, ReadOnly=True, BindOptions=options) for options in asked}


@case(GROUP, "CreateMountpoint with a missing source")
def _(engine, folder):
    options = {"CreateMountpoint": True}
    seen = {"missing": mount(engine, folder, Source=str(folder / "new/deep"), BindOptions=options)}
    seen["missing, read-only"] = mount(engine, folder, Source=str(folder / "other"), ReadOnly=True, BindOptions=options)
    machine.write(folder / "file")
    seen["below a file"] = mount(engine, folder, Source=str(folder / "file/below"), BindOptions=options)
    (folder / "broken").symlink_to("nowhere")
    seen["a broken link"] = mount(engine, folder, Source=str(folder / "broken"), BindOptions=options)
    return seen | {"a file, onto a file": mount(engine, folder, Source=str(folder / "file"), Target="/etc/passwd", BindOptions=options)}


@case(GROUP, "Binds and Mounts and Tmpfs at one place")
def _(engine, folder):
    machine.make(folder / "source")
    source = str(folder / "source")
    mounts = [{"Type": "bind", "Source": source, "Target": "/x"}]
    seen = {
        "Binds and Mounts": create(engine, folder, {"Binds": [f"{source}:/x"], "Mounts": mounts}),
        "Mounts twice": create(engine, folder, {"Mounts": mounts * 2}),
    }
    seen["Binds and Tmpfs"] = create(engine, folder, {"Binds": [f"{source}:/x"], "Tmpfs": {"/x": ""}})
    return seen | {"Mounts and Tmpfs": create(engine, folder, {"Mounts": mounts, "Tmpfs": {"/x": ""}})}
