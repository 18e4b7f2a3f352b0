"""Drives the projects that serve or build: a web application, secrets, a static site, a build, two services with one folder."""

import os

from . import machine
from .engine import until
from .suites import project


@project("web-database")
def _(place):
    place.up()
    place.mounts()
    port = place.port("web", 8000)
    page = place.folder / "src/index.html"
    place.step("requests", page=place.engine.get(port), visits=[place.engine.get(port, "/cgi-bin/visits") for _ in range(2)])
    page.write_text("<h1>second</h1>\n")
    machine.write(place.folder / "src/new.html", "new\n")
    place.step("changed on the machine", page=place.engine.get(port), new=place.engine.get(port, "/new.html"))
    replaced = machine.write(place.folder / "src/.index.html.new", "<h1>third</h1>\n")
    replaced.rename(page)
    place.step("replaced on the machine", page=place.engine.get(port))
    place.inside(
        "web",
        "mkdir -m 750 /app/made && echo inside > /app/made/file && chown 7:8 /app/made/file && chmod 604 /app/made/file && ln -s file /app/made/link",
    )
    place.step("written inside", machine=machine.tree(place.folder / "src"))
    (place.folder / "src/new.html").unlink()
    place.step("removed on the machine", new=place.engine.get(port, "/new.html"), inside=place.inside("web", "ls /app"))
    place.again()
    place.restart(states=place.states)
    place.step(
        "after the restart", page=place.engine.get(place.port("web", 8000)), data=place.inside("db", "cat /var/lib/db/www/index.html")
    )
    place.down()


@project("file-secrets")
def _(place):
    os.chmod(place.folder / "password.txt", 0o640)
    os.chown(place.folder / "password.txt", 1000, 1000)
    ended = place.compose("up -d --wait")
    place.step("up", exit=ended.code, states=place.states(), warned=place.reasons(ended))
    place.mounts()
    look = "cd /run/secrets; for f in token db_password /etc/tls/server.pem; do stat -c '%a %u:%g' $f; cat $f; done; ls"
    place.step(
        "inside",
        files=place.inside("app", look),
        write=place.inside("app", "echo x > /run/secrets/token; echo x > /run/secrets/db_password"),
    )
    (place.folder / "token.txt").write_text("token-2\n")
    machine.write(place.folder / "new", "certificate-2\n").rename(place.folder / "certificate.pem")
    place.step("changed on the machine", files=place.inside("app", "cat /run/secrets/token /etc/tls/server.pem"))
    place.again()
    place.restart(files=lambda: place.inside("app", "cat /run/secrets/token /etc/tls/server.pem"))
    run = place.compose("run", "--rm", "-T", "app", "cat", "/run/secrets/db_password")
    place.step("run", exit=run.code, out=run.out)
    (place.folder / "token.txt").unlink()
    ended = place.compose("up -d --force-recreate -t 1")
    place.step("without its file", exit=ended.code, says=place.reasons(ended), machine=machine.look(place.folder / "token.txt"))
    place.down()


@project("static-site")
def _(place):
    place.up()
    place.mounts()
    port = place.port("nginx", 80)
    place.step("requests", page=place.engine.get(port), version=place.engine.get(port, "/version"))
    write = "echo x > /usr/share/nginx/html/x; echo x > /etc/nginx/conf.d/default.conf; rm /etc/nginx/conf.d/default.conf"
    place.step("write inside", says=place.inside("nginx", write))
    settings = place.folder / "site.conf"
    text = settings.read_text()
    settings.write_text(text.replace("settings 1", "settings 2"))
    machine.write(place.folder / "html/index.html", "<h1>changed</h1>\n")
    reloaded = place.compose("exec", "-T", "nginx", "nginx", "-s", "reload").code
    version = until(lambda: "settings 2" in place.engine.get(port, "/version"), 10)
    place.step("edited in place", reload=reloaded, page=place.engine.get(port), reloaded=version)
    machine.write(place.folder / "new", text.replace("settings 1", "settings 3")).rename(settings)
    seen = place.inside("nginx", "grep -o 'settings .' /etc/nginx/conf.d/default.conf")
    place.step("replaced by a new file", inside=seen)
    place.again()
    place.restart()
    place.step("after the restart", version=place.engine.get(place.port("nginx", 80), "/version"))
    settings.write_text("no settings at all\n")
    place.compose("restart", "-t", "1")
    broken = until(lambda: place.states()["nginx"] in ("restarting 1", "exited 1"), 20)
    place.step("settings that the server refuses", it_keeps_ending=bool(broken))
    place.down()


@project("build-cache")
def _(place):
    for name in ("first run", "second run"):
        ended = place.compose("run", "--rm", "-T", "build")
        place.step(name, exit=ended.code, out=ended.out, machine=machine.tree(place.folder))
    (place.folder / ".cache/program").unlink()
    ended = place.compose("up", "--abort-on-container-exit", "--no-log-prefix")
    place.step("by up, without the cache", exit=ended.code, built="built" in ended.out, states=place.states())
    place.mounts()
    ended = place.compose("run", "--rm", "-T", "lint")
    place.step(
        "as a user, in a folder that was missing", exit=ended.code, says=ended.says()[-80:], machine=machine.look(place.folder / "report")
    )
    os.chown(place.folder / "report", 1000, 1000)
    ended = place.compose("run", "--rm", "-T", "lint")
    place.step("as a user, in a folder of the user", exit=ended.code, machine=machine.tree(place.folder / "report"))
    place.down()


@project("producer-consumer")
def _(place):
    ended = place.compose("up -d --wait")
    place.step(
        "without the folder of the long form", exit=ended.code, says=place.reasons(ended), machine=machine.look(place.folder / "result")
    )
    machine.make(place.folder / "result")
    place.up()
    place.mounts()
    spool, result = place.folder / "spool", place.folder / "result"
    machine.write(spool / "in/a.txt.part", "hello\n").rename(spool / "in/a.txt")
    chain = until((result / "a.txt").exists)
    until(lambda: not (spool / "in/a.txt").exists())
    place.step("a file goes through both", arrived=chain, machine={"spool": machine.tree(spool), "result": machine.tree(result)})
    write = "touch /incoming/x; rm /incoming/a.txt; mv /incoming/a.txt /incoming/b.txt"
    place.step("the reader writes", says=place.inside("consumer", write))
    place.again()
    place.compose("stop", "-t", "1", "consumer")
    machine.write(spool / "in/b.txt.part", "later\n").rename(spool / "in/b.txt")
    waiting = until(lambda: (spool / "out/b.txt").exists())
    place.compose("start consumer")
    place.step("the reader comes back", waiting=waiting, arrived=until((result / "b.txt").exists))
    place.restart(states=place.states)
    place.down()
