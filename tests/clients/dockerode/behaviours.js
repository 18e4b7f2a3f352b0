// What dockerode's users do, each asserted against what a Docker engine answers.

const assert = require("node:assert/strict");
const fs = require("node:fs");
const http = require("node:http");
const os = require("node:os");
const path = require("node:path");
const stream = require("node:stream");
const tar = require("tar-stream");
const Docker = require("dockerode");
const { behaviour, main, named, run, sleep, until } = require("../behaviours.js");

const docker = new Docker();
const LABELS = { "d2k.clients": run };
const MACHINE = fs.mkdtempSync(path.join(os.tmpdir(), "d2k-"));

const bytes = async (readable) => {
  const chunks = [];
  for await (const chunk of readable) chunks.push(Buffer.from(chunk));
  return Buffer.concat(chunks);
};
const text = async (readable) => (await bytes(readable)).toString();
const create = (options) => docker.createContainer({ Image: "busybox", Labels: LABELS, ...options });
const start = async (options = {}) => {
  const container = await create({ Cmd: ["sleep", "1000"], ...options });
  await container.start();
  return container;
};
const collector = () => {
  const sink = new stream.PassThrough();
  sink.all = [];
  sink.on("data", (chunk) => sink.all.push(chunk));
  sink.text = () => Buffer.concat(sink.all).toString();
  return sink;
};
const refused = async (status, call, word = "") => {
  const error = await call().then(() => null, (error) => error);
  assert.ok(error, `not refused with ${status}`);
  assert.equal(error.statusCode, status, error.message);
  assert.ok(error.message.includes(word), error.message);
};
const demuxed = (source) => {
  const [out, err] = [collector(), collector()];
  docker.modem.demuxStream(source, out, err);
  return new Promise((done, fail) => {
    source.on("end", () => done([out.text(), err.text()]));
    source.on("error", fail);
  });
};
const exec = async (container, options, starting = {}) => {
  const made = await container.exec({ AttachStdout: true, AttachStderr: true, ...options });
  const [out, err] = await demuxed(await made.start(starting));
  return [out, err, (await made.inspect()).ExitCode];
};
const archive = async (files) => {
  const pack = tar.pack();
  for (const [name, content] of Object.entries(files)) pack.entry({ name }, content);
  pack.finalize();
  return bytes(pack);
};
const unpacked = async (source) => {
  const files = {};
  const extract = tar.extract();
  source.pipe(extract);
  for await (const entry of extract) files[entry.header.name] = await text(entry);
  return files;
};

behaviour("ping, version and info", async () => {
  assert.equal((await docker.ping()).toString(), "OK");
  assert.equal((await docker.version()).Os, "linux");
  const info = await docker.info();
  assert.ok(info.MemTotal > 0 && info.NCPU > 0 && info.OSType === "linux");
});

behaviour("swarm is refused with 503", async () => {
  await refused(503, () => docker.listServices(), "This node is not a swarm manager");
  await refused(503, () => docker.listNodes());
  await refused(503, () => docker.swarmInspect());
});

behaviour("run with its output and exit code", async () => {
  const [out, err] = [collector(), collector()];
  const [ended, container] = await docker.run("busybox", ["sh", "-c", "echo out; echo err >&2; exit 5"], [out, err], { Tty: false, Labels: LABELS });
  assert.equal(ended.StatusCode, 5);
  assert.deepEqual([out.text(), err.text()], ["out\n", "err\n"]);
  await container.remove();
});

behaviour("run with a terminal", async () => {
  const out = collector();
  const [ended] = await docker.run("busybox", ["tty"], out, { Tty: true, Labels: LABELS });
  assert.equal(ended.StatusCode, 0);
  assert.match(out.text(), /^\/dev\/pts\/\d+\r\n$/);
});

behaviour("create with its options repeated in the query", async () => {
  const path = `/containers/create?name=${named("repeated")}&Image=busybox&Cmd=sh&Cmd=-c&Cmd=true&Env=A=1&Env=B=2&`;
  const options = { Image: "busybox", Cmd: ["env"], Env: ["A=1", "B=2"], Labels: LABELS };
  const made = await new Promise((done, fail) =>
    docker.modem.dial({ path, method: "POST", options: { ...options, _query: {}, _body: options }, statusCodes: { 201: true } }, (error, data) => (error ? fail(error) : done(data)))
  );
  assert.match(made.Id, /^[0-9a-f]{64}$/);
  assert.deepEqual((await docker.getContainer(named("repeated")).inspect()).Config.Cmd, ["env"]);
});

behaviour("attach with input and its end, before the start", async () => {
  const container = await create({ Cmd: ["cat"], OpenStdin: true, StdinOnce: true, AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const attached = await container.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
  const output = demuxed(attached);
  await container.start();
  attached.write("through and back\n");
  attached.end();
  assert.deepEqual(await output, ["through and back\n", ""]);
  assert.equal((await container.wait()).StatusCode, 0);
});

behaviour("attach without an upgrade", async () => {
  const container = await create({ Cmd: ["sh", "-c", "sleep 0.5; echo out; echo err >&2"], AttachStdout: true, AttachStderr: true });
  const output = demuxed(await container.attach({ stream: true, stdout: true, stderr: true }));
  await container.start();
  assert.deepEqual(await output, ["out\n", "err\n"]);
});

behaviour("exec without an upgrade, with streams apart and exit code", async () => {
  const container = await start();
  const script = "echo $A $(pwd) $(id -u); echo err >&2; exit 3";
  const options = { Cmd: ["sh", "-c", script], Env: ["A=x"], WorkingDir: "/tmp", User: "1000" };
  assert.deepEqual(await exec(container, options), ["x /tmp 1000\n", "err\n", 3]);
});

behaviour("exec with an upgrade, input and its end", async () => {
  const made = await (await start()).exec({ Cmd: ["wc", "-c"], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const socket = await made.start({ hijack: true, stdin: true });
  const output = demuxed(socket);
  socket.write("12345");
  socket.end();
  assert.deepEqual(await output, ["5\n", ""]);
});

behaviour("exec with a terminal and its size", async () => {
  const made = await (await start()).exec({ Cmd: ["sh", "-c", "sleep 1; stty size"], AttachStdout: true, Tty: true });
  const socket = await made.start({ hijack: true, Tty: true });
  await made.resize({ h: 31, w: 97 });
  assert.match(await text(socket), /31 97\r\n/);
});

behaviour("exec detached", async () => {
  const container = await start();
  const made = await container.exec({ Cmd: ["touch", "/tmp/made"] });
  await made.start({ Detach: true });
  await until("it has ended", async () => (await made.inspect()).ExitCode === 0);
  assert.equal((await exec(container, { Cmd: ["test", "-e", "/tmp/made"] }))[2], 0);
});

behaviour("three execs at a time", async () => {
  const container = await start();
  const all = await Promise.all([1, 2, 3].map((n) => exec(container, { Cmd: ["sh", "-c", `sleep 0.3; echo ${n}; exit ${n}`] })));
  assert.deepEqual(all, [["1\n", "", 1], ["2\n", "", 2], ["3\n", "", 3]]);
});

behaviour("logs whole, by tail, with timestamps, and followed", async () => {
  const container = await start({ Cmd: ["sh", "-c", "echo 1; echo 2; sleep 1; echo 3"] });
  const output = demuxed(await container.logs({ stdout: true, stderr: true, follow: true }));
  assert.deepEqual(await output, ["1\n2\n3\n", ""]);
  const read = async (options) => (await container.logs({ stdout: true, stderr: true, ...options })).subarray(8).toString();
  assert.equal(await read({ tail: 1 }), "3\n");
  assert.match(await read({ tail: 1, timestamps: true }), /^\d{4}-.*\.\d{9}Z 3\n$/);
});

behaviour("logs tell standard output and error apart", async () => {
  const container = await start({ Cmd: ["sh", "-c", "echo out; echo err >&2"] });
  await container.wait();
  assert.deepEqual(await demuxed(await container.logs({ stdout: true, stderr: true, follow: true })), ["out\n", "err\n"]);
});

behaviour("archives both ways, and before the start", async () => {
  const container = await create({ Cmd: ["sh", "-c", "cat /etc/early; echo; sleep 1000"] });
  await container.putArchive(await archive({ early: "in time" }), { path: "/etc" });
  await container.start();
  await until("it is logged", async () => (await container.logs({ stdout: true })).includes("in time"));
  await container.putArchive(await archive({ "d/late": "later" }), { path: "/tmp" });
  assert.equal((await exec(container, { Cmd: ["cat", "/tmp/d/late"] }))[0], "later");
  const files = await unpacked(await container.getArchive({ path: "/tmp/d" }));
  assert.equal(files["d/late"], "later");
  const stat = await container.infoArchive({ path: "/tmp/d/late" });
  const shown = JSON.parse(Buffer.from(stat.headers["x-docker-container-path-stat"], "base64"));
  assert.deepEqual([shown.name, shown.size], ["late", 5]);
  await refused(404, () => container.getArchive({ path: "/nosuch" }), "Could not find the file /nosuch");
});

behaviour("the export of a file system", async () => {
  const container = await start();
  assert.ok("etc/passwd" in (await unpacked(await container.export())));
});

behaviour("stop with a body, restart, kill, rename and update", async () => {
  const container = await start({ name: named("life") });
  await container.restart({ t: 1 });
  await container.rename({ name: named("life-two") });
  await container.update({ Memory: 96 << 20, MemorySwap: 192 << 20 });
  assert.equal((await docker.getContainer(named("life-two")).inspect()).HostConfig.Memory, 96 << 20);
  await container.stop({ t: 0 });
  await refused(304, () => container.stop({ t: 0 }));
  await container.start();
  await refused(304, () => container.start());
  await container.kill();
  await until("it has exited", async () => (await container.inspect()).State.Status === "exited");
  await refused(409, () => container.kill(), "is not running");
});

behaviour("pause and unpause", async () => {
  const container = await start({ HostConfig: { Init: true } });
  await container.pause();
  assert.equal((await container.inspect()).State.Paused, true);
  await container.unpause();
  assert.equal((await container.inspect()).State.Paused, false);
});

behaviour("wait with its conditions", async () => {
  const container = await create({ Cmd: ["sh", "-c", "exit 6"] });
  const next = container.wait({ condition: "next-exit" });
  await sleep(300);
  await container.start();
  assert.equal((await next).StatusCode, 6);
  assert.equal((await container.wait()).StatusCode, 6);
  const removed = container.wait({ condition: "removed" });
  await sleep(300);
  await container.remove();
  assert.equal((await removed).StatusCode, 6);
});

behaviour("top, changes and stats", async () => {
  const container = await start();
  assert.ok((await container.top()).Processes.some((row) => row.join(" ").includes("sleep 1000")));
  const changes = await container.changes();
  // Docker's null arrives here as the bytes of the word.
  assert.ok(Array.isArray(changes) || String(changes).trim() === "null", String(changes));
  const once = await container.stats({ stream: false });
  assert.ok(once.cpu_stats.system_cpu_usage > 0 && once.memory_stats, JSON.stringify(once));
  const samples = await container.stats({ stream: true });
  const lines = [];
  for await (const chunk of samples) {
    lines.push(...chunk.toString().split("\n").filter(Boolean).map((line) => JSON.parse(line)));
    if (lines.length >= 2) break;
  }
  assert.ok(lines[1].read > lines[0].read);
});

behaviour("commit, build and push are refused with what to do instead", async () => {
  await refused(501, async () => (await start()).commit({ repo: "some/thing" }), "commit");
  await refused(501, () => docker.buildImage(stream.Readable.from([Buffer.alloc(1024)]), { t: "x" }), "build");
  await refused(501, () => docker.getImage("busybox").push({}), "push");
});

behaviour("a list by filters of both forms", async () => {
  const container = await start({ name: named("listed"), Labels: { ...LABELS, which: run } });
  for (const filters of [{ label: [`which=${run}`] }, { name: [named("listed")] }, JSON.stringify({ label: { [`which=${run}`]: true } })]) {
    assert.deepEqual((await docker.listContainers({ filters })).map((c) => c.Id), [container.id]);
  }
  await refused(400, () => docker.listContainers({ filters: { nonsense: ["x"] } }), "invalid filter 'nonsense'");
});

behaviour("ports that answer at once", async () => {
  const container = await start({ Image: "nginx", Cmd: undefined, ExposedPorts: { "80/tcp": {} }, HostConfig: { PortBindings: { "80/tcp": [{ HostPort: "0" }] } } });
  const port = (await container.inspect()).NetworkSettings.Ports["80/tcp"][0].HostPort;
  const host = new URL(process.env.DOCKER_HOST).hostname;
  const page = await new Promise((done, fail) => http.get({ host, port }, done).on("error", fail));
  assert.match(await text(page), /Welcome to nginx/);
});

behaviour("events by filter, live and from the past", async () => {
  const since = Math.floor(Date.now() / 1000) - 1;
  const live = await docker.getEvents({ filters: { label: [`events=${run}`] } });
  const seen = [];
  live.on("data", (chunk) => seen.push(...chunk.toString().split("\n").filter(Boolean).map((line) => JSON.parse(line).Action)));
  const container = await start({ Cmd: ["true"], Labels: { ...LABELS, events: run } });
  await container.wait();
  await until("die is told", () => seen.includes("die"));
  await container.remove();
  await until("destroy is told", () => seen.includes("destroy"));
  live.destroy();
  assert.deepEqual(seen, ["create", "start", "die", "destroy"]);
  const past = await text(await docker.getEvents({ since, until: Math.floor(Date.now() / 1000) + 1, filters: { container: [container.id] } }));
  assert.deepEqual(past.split("\n").filter(Boolean).map((line) => JSON.parse(line).Action), seen);
});

behaviour("images pulled with progress, listed, inspected, tagged, removed", async () => {
  const pulled = await docker.pull("busybox:latest");
  const events = await new Promise((done, fail) => docker.modem.followProgress(pulled, (error, all) => (error ? fail(error) : done(all))));
  assert.match(events.at(-1).status, /^Status: /);
  const image = docker.getImage("busybox");
  const id = (await image.inspect()).Id;
  assert.ok((await docker.listImages()).some((i) => i.Id === id && i.RepoTags.includes("busybox:latest")));
  assert.ok((await image.history()).length > 0);
  await image.tag({ repo: named("tagged"), tag: "1" });
  assert.equal((await docker.getImage(`${named("tagged")}:1`).inspect()).Id, id);
  await docker.getImage(`${named("tagged")}:1`).remove();
  await refused(404, () => docker.getImage(`${named("tagged")}:1`).inspect(), "No such image");
  await refused(404, () => docker.pull(`no/such-${run}:1`));
});

behaviour("volumes made, listed, used, removed, pruned", async () => {
  await docker.createVolume({ Name: named("data"), Labels: LABELS });
  const container = await start({ HostConfig: { Mounts: [{ Type: "volume", Source: named("data"), Target: "/data" }] } });
  assert.equal((await exec(container, { Cmd: ["sh", "-c", "echo kept > /data/f && cat /data/f"] }))[0], "kept\n");
  const volume = docker.getVolume(named("data"));
  assert.equal((await volume.inspect()).Name, named("data"));
  const listed = await docker.listVolumes({ filters: { label: [`d2k.clients=${run}`] } });
  assert.deepEqual(listed.Volumes.map((v) => v.Name), [named("data")]);
  await refused(409, () => volume.remove(), "volume is in use");
  await container.remove({ force: true });
  const pruned = await docker.pruneVolumes({ filters: { all: ["true"], label: [`d2k.clients=${run}`] } });
  assert.deepEqual(pruned.VolumesDeleted, [named("data")]);
});

// Binds of paths of this machine, which only an embedded cluster has: on a real one each must be refused, and `bound` gives nothing.
const bound = async (options) => {
  if (process.env.D2K_CLIENTS_CLUSTER === "embedded") return start(options);
  await refused(400, () => start(options), "bind mounts are not supported");
  await refused(400, () => start(options), "Use a named volume");
  assert.deepEqual(await docker.listContainers({ all: true, filters: { label: [`d2k.clients=${run}`] } }), []);
};
const folder = (name, files = {}) => {
  const made = path.join(MACHINE, name);
  fs.mkdirSync(made);
  for (const [file, content] of Object.entries(files)) fs.writeFileSync(path.join(made, file), content);
  return made;
};
const read = (...steps) => fs.readFileSync(path.join(...steps), "utf8");
const inside = (container, script) => exec(container, { Cmd: ["sh", "-c", script] });
const bind = (Source, Destination, Mode, RW, Propagation = "rprivate") => ({ Type: "bind", Source, Destination, Mode, RW, Propagation });

behaviour("a folder of the machine, in Binds, is seen from both sides, or is refused", async () => {
  const here = folder("both", { first: "from the machine" });
  const container = await bound({ HostConfig: { Binds: [`${here}:/data`] } });
  if (!container) return;
  assert.deepEqual(await inside(container, "cat /data/first"), ["from the machine", "", 0]);
  assert.equal((await inside(container, "echo inside > /data/second; chown 1000:1001 /data/second"))[2], 0);
  const { uid, gid } = fs.statSync(path.join(here, "second"));
  assert.deepEqual([read(here, "second"), uid, gid], ["inside\n", 1000, 1001]);
  fs.writeFileSync(path.join(here, "first"), "changed");
  assert.deepEqual(await inside(container, "cat /data/first; rm /data/first"), ["changed", "", 0]);
  assert.deepEqual(fs.readdirSync(here), ["second"]);
  const shown = await container.inspect();
  assert.deepEqual(shown.Mounts, [bind(here, "/data", "", true)]);
  assert.deepEqual(shown.HostConfig.Binds, [`${here}:/data`]);
});

behaviour("a single file, read-only, or it is refused", async () => {
  const file = path.join(folder("single", { "app.conf": "one" }), "app.conf");
  const container = await bound({ HostConfig: { Binds: [`${file}:/etc/app/app.conf:ro`] } });
  if (!container) return;
  const [out, err, code] = await inside(container, "cat /etc/app/app.conf; echo two > /etc/app/app.conf");
  assert.deepEqual([out, code, read(file)], ["one", 1, "one"]);
  assert.match(err, /Read-only file system/);
  assert.deepEqual((await container.inspect()).Mounts, [bind(file, "/etc/app/app.conf", "ro", false)]);
});

behaviour("a bind in Mounts, with its options, or it is refused", async () => {
  const here = folder("mounts", { file: "text" });
  const mount = { Type: "bind", Source: here, Target: "/data", ReadOnly: true, BindOptions: { Propagation: "private" } };
  const container = await bound({ HostConfig: { Mounts: [mount] } });
  if (!container) return;
  const [out, , code] = await inside(container, "cat /data/file; touch /data/new");
  assert.deepEqual([out, code, fs.readdirSync(here)], ["text", 1, ["file"]]);
  const shown = await container.inspect();
  assert.deepEqual(shown.Mounts, [bind(here, "/data", "", false, "private")]);
  assert.deepEqual(shown.HostConfig.Mounts, [mount]);
});

behaviour("a missing source is made for Binds, and refused for Mounts, or both are refused", async () => {
  const [made, none] = [path.join(MACHINE, "made", "deep"), path.join(MACHINE, "none")];
  const mounts = { HostConfig: { Mounts: [{ Type: "bind", Source: none, Target: "/data" }] } };
  const container = await bound({ HostConfig: { Binds: [`${made}:/data`] } });
  if (container) {
    await inside(container, "echo made > /data/file");
    assert.equal(read(made, "file"), "made\n");
    await refused(400, () => start(mounts), `invalid mount config for type "bind": bind source path does not exist: ${none}`);
  } else {
    await bound(mounts);
    assert.ok(!fs.existsSync(made));
  }
  assert.ok(!fs.existsSync(none));
});

behaviour("networks made, joined, left, removed", async () => {
  const network = await docker.createNetwork({ Name: named("net"), CheckDuplicate: true, Labels: LABELS });
  const container = await start();
  await network.connect({ Container: container.id, EndpointConfig: { Aliases: ["friend"] } });
  const shown = await network.inspect();
  assert.deepEqual(Object.keys(shown.Containers), [container.id]);
  assert.ok((await container.inspect()).NetworkSettings.Networks[named("net")].Aliases.includes("friend"));
  await network.disconnect({ Container: container.id });
  await network.remove();
  await refused(404, () => network.inspect());
});

behaviour("a login", async () => {
  const registry = process.env.D2K_CLIENTS_REGISTRY ?? "127.0.0.1:5000";
  const answer = await docker.checkAuth({ username: "someone", password: "secret", serveraddress: registry });
  assert.equal(answer.Status, "Login Succeeded");
});

behaviour("prune by label", async () => {
  const container = await start({ Cmd: ["true"], Labels: { ...LABELS, prune: run } });
  await container.wait();
  const pruned = await docker.pruneContainers({ filters: { label: [`prune=${run}`] } });
  assert.deepEqual(pruned.ContainersDeleted, [container.id]);
  assert.ok("SpaceReclaimed" in (await docker.pruneImages({ filters: { dangling: ["true"] } })));
});

const pull = async (image) => {
  const progress = await docker.pull(image);
  await new Promise((done, fail) => docker.modem.followProgress(progress, (error) => (error ? fail(error) : done())));
};

const clean = async () => {
  for (const { Id } of await docker.listContainers({ all: true, filters: { label: [`d2k.clients=${run}`] } })) {
    await docker.getContainer(Id).remove({ force: true, v: true }).catch(() => {});
  }
};

process.on("exit", () => fs.rmSync(MACHINE, { recursive: true }));
main(`dockerode ${require("dockerode/package.json").version}`, () => Promise.all(["busybox:latest", "nginx:latest"].map(pull)), clean);
