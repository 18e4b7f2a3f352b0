// What users of Testcontainers for JavaScript do.

const assert = require("node:assert/strict");
const { spawnSync } = require("node:child_process");
const fs = require("node:fs");
const net = require("node:net");
const os = require("node:os");
const path = require("node:path");
const Docker = require("dockerode");
const { GenericContainer, Network, Wait } = require("testcontainers");
const { behaviour, main, named, sleep, until } = require("../behaviours.js");

const docker = new Docker();
const started = [];
const MACHINE = fs.mkdtempSync(path.join(os.tmpdir(), "d2k-"));

const start = async (container) => {
  const running = await container.start();
  started.push(running);
  return running;
};
const busybox = (script = "sleep 1000") => new GenericContainer("busybox").withCommand(["sh", "-c", script]);
const get = async (container, port = 80, file = "/") => {
  const answer = await fetch(`http://${container.getHost()}:${container.getMappedPort(port)}${file}`);
  return answer.text();
};
const retried = async (call) => {
  let answer;
  await until("an answer", async () => ((answer = await call().catch(() => undefined)), answer !== undefined));
  return answer;
};
const gone = async (id) => (await docker.listContainers({ all: true, filters: { id: [id] } })).length === 0;

behaviour("a mapped port is reachable at the host of DOCKER_HOST at once", async () => {
  const server = await start(new GenericContainer("nginx").withExposedPorts(80));
  assert.equal(server.getHost(), new URL(process.env.DOCKER_HOST).hostname);
  assert.match(await get(server), /Welcome to nginx/);
});

behaviour("a port bound to one of this host", async () => {
  const free = net.createServer().listen(0, "127.0.0.1");
  await new Promise((done) => free.on("listening", done));
  const host = free.address().port;
  await new Promise((done) => free.close(done));
  const server = await start(new GenericContainer("nginx").withExposedPorts({ container: 80, host }));
  assert.equal(server.getMappedPort(80), host);
  assert.match(await get(server), /Welcome to nginx/);
});

behaviour("waiting for listening ports, which start late", async () => {
  const begin = Date.now();
  const server = await start(busybox("sleep 1; httpd -f -p 80 -h /etc").withExposedPorts(80));
  assert.ok(Date.now() - begin > 1000);
  assert.match(await get(server, 80, "/passwd"), /root:/);
});

behaviour("waiting for the log, by text, by pattern, and several times", async () => {
  const script = "echo one; sleep 0.5; echo port 42 is open; echo again; echo again; sleep 1000";
  await start(busybox(script).withWaitStrategy(Wait.forLogMessage("port 42 is open")));
  await start(busybox(script).withWaitStrategy(Wait.forLogMessage(/port \d+ is/)));
  await start(busybox(script).withWaitStrategy(Wait.forLogMessage("again", 2)));
});

behaviour("waiting for health", async () => {
  const container = busybox("sleep 1; touch /tmp/well; sleep 1000")
    .withHealthCheck({ test: ["CMD-SHELL", "test -e /tmp/well"], interval: 300, timeout: 3000, retries: 30, startPeriod: 0 })
    .withWaitStrategy(Wait.forHealthCheck());
  const running = await start(container);
  assert.equal((await docker.getContainer(running.getId()).inspect()).State.Health.Status, "healthy");
});

behaviour("waiting for http, by status and answer", async () => {
  const script = "sleep 1; mkdir /w; echo yes > /w/well; httpd -f -p 80 -h /w";
  const strategy = Wait.forHttp("/well", 80).forStatusCode(200).forResponsePredicate((body) => body === "yes\n");
  await start(busybox(script).withExposedPorts(80).withWaitStrategy(strategy));
});

behaviour("waiting for a command in the container", async () => {
  await start(busybox("sleep 1; touch /tmp/well; sleep 1000").withWaitStrategy(Wait.forSuccessfulCommand("test -e /tmp/well")));
});

behaviour("waiting for one shot, and for all of several", async () => {
  await start(busybox("sleep 0.5; echo done").withWaitStrategy(Wait.forOneShotStartup()));
  const all = Wait.forAll([Wait.forListeningPorts(), Wait.forLogMessage("ready")]);
  await start(busybox("echo ready; httpd -f -p 80").withExposedPorts(80).withWaitStrategy(all));
});

behaviour("waiting in vain ends with an error, and the container goes", async () => {
  const name = named("never");
  const container = busybox().withName(name).withWaitStrategy(Wait.forLogMessage("never")).withStartupTimeout(1500);
  await assert.rejects(container.start(), /never/);
  assert.equal((await docker.listContainers({ all: true, filters: { name: [name] } })).length, 0);
});

behaviour("exec with output, streams apart, exit code and options", async () => {
  const container = await start(busybox());
  const result = await container.exec(["sh", "-c", "echo out; sleep 0.1; echo err >&2; exit 3"]);
  assert.deepEqual([result.exitCode, result.stdout, result.stderr, result.output], [3, "out\n", "err\n", "out\nerr\n"]);
  const options = { workingDir: "/tmp", user: "1000", env: { A: "x" } };
  assert.equal((await container.exec(["sh", "-c", "echo $A $(pwd) $(id -u)"], options)).output, "x /tmp 1000\n");
});

behaviour("files, folders and contents copied before the start", async () => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "d2k-"));
  fs.writeFileSync(path.join(folder, "file"), "of a folder");
  const container = busybox("cat /etc/one /etc/two /etc/three/file; echo; sleep 1000")
    .withCopyContentToContainer([{ content: "content ", target: "/etc/one", mode: 0o600 }])
    .withCopyFilesToContainer([{ source: path.join(folder, "file"), target: "/etc/two" }])
    .withCopyDirectoriesToContainer([{ source: folder, target: "/etc/three" }])
    .withWaitStrategy(Wait.forLogMessage("content of a folderof a folder"));
  const running = await start(container);
  assert.match((await running.exec("stat -c %a /etc/one")).output, /^600/);
  fs.rmSync(folder, { recursive: true });
});

behaviour("contents copied after the start, and an archive back", async () => {
  const container = await start(busybox());
  await container.copyContentToContainer([{ content: "later", target: "/tmp/late" }]);
  assert.equal((await container.exec("cat /tmp/late")).output, "later");
  const archive = Buffer.concat(await (await container.copyArchiveFromContainer("/tmp/late")).toArray());
  assert.ok(archive.includes("later"));
});

behaviour("a network with aliases", async () => {
  const network = await new Network().start();
  try {
    await start(new GenericContainer("nginx").withNetwork(network).withNetworkAliases("web", "other"));
    const client = await start(busybox().withNetwork(network));
    for (const name of ["web", "other"]) {
      const { output } = await client.exec(["sh", "-c", `for i in $(seq 50); do wget -qO- http://${name}/ && exit; sleep 0.1; done`]);
      assert.match(output, /Welcome to nginx/);
    }
  } finally {
    await stopAll();
    await network.stop();
  }
});

behaviour("environment, labels, user, directory, hostname, tmpfs and name", async () => {
  const container = busybox("echo $A $(id -u) $(pwd) $(hostname); sleep 1000")
    .withName(named("settings"))
    .withEnvironment({ A: "x" })
    .withLabels({ "a.Label": "its value" })
    .withUser("1000")
    .withWorkingDir("/tmp")
    .withHostname("machine")
    .withTmpFs({ "/scratch": "rw,noexec,size=8m" })
    .withResourcesQuota({ memory: 0.0625, cpu: 0.5 })
    .withWaitStrategy(Wait.forLogMessage("x 1000 /tmp machine"));
  const running = await start(container);
  assert.equal(running.getName(), `/${named("settings")}`);
  assert.equal(running.getLabels()["a.Label"], "its value");
  assert.match((await running.exec("df /scratch")).output, /tmpfs/);
  assert.equal((await docker.getContainer(running.getId()).inspect()).HostConfig.Memory, 64 << 20);
});

behaviour("a named volume keeps what is written", async () => {
  const bind = [{ source: named("data"), target: "/data", mode: "rw" }];
  const first = await start(busybox().withBindMounts(bind));
  assert.equal((await first.exec(["sh", "-c", "echo kept > /data/f"])).exitCode, 0);
  await first.stop();
  const second = await start(busybox().withBindMounts(bind));
  assert.equal((await second.exec("cat /data/f")).output, "kept\n");
  await stopAll();
  await docker.getVolume(named("data")).remove();
});

// Binds of paths of this machine, which only an embedded cluster has: on a real one each must be refused, and `bound` gives nothing.
const bound = async (container) => {
  if (process.env.D2K_CLIENTS_CLUSTER === "embedded") return start(container);
  await assert.rejects(start(container), /bind mounts are not supported.*Use a named volume/);
};

behaviour("a folder of the machine is seen from both sides, or is refused", async () => {
  const source = path.join(MACHINE, "both");
  const file = (name) => path.join(source, name);
  fs.mkdirSync(source);
  fs.writeFileSync(file("first"), "from the machine");
  const container = await bound(busybox().withBindMounts([{ source, target: "/data" }]));
  if (!container) return;
  assert.equal((await container.exec("cat /data/first")).output, "from the machine");
  assert.equal((await container.exec(["sh", "-c", "echo inside > /data/second"])).exitCode, 0);
  assert.equal(fs.readFileSync(file("second"), "utf8"), "inside\n");
  fs.writeFileSync(file("first"), "changed");
  assert.equal((await container.exec("cat /data/first")).output, "changed");
  const [{ Type, Source, Destination, RW }, ...others] = (await docker.getContainer(container.getId()).inspect()).Mounts;
  assert.deepEqual([Type, Source, Destination, RW, others], ["bind", source, "/data", true, []]);
  await container.restart({ timeout: 1000 });
  assert.equal((await container.exec("cat /data/second")).output, "inside\n");
  await container.stop();
  assert.deepEqual(fs.readdirSync(source), ["first", "second"]);
});

behaviour("a single file, read-only, or it is refused", async () => {
  const source = path.join(MACHINE, "init.sh");
  const script = "echo it was run; sleep 1000\n";
  fs.writeFileSync(source, script);
  const given = new GenericContainer("busybox").withCommand(["sh", "/init/init.sh"]);
  const container = await bound(given.withBindMounts([{ source, target: "/init/init.sh", mode: "ro" }]).withWaitStrategy(Wait.forLogMessage("it was run")));
  if (!container) return;
  assert.notEqual((await container.exec(["sh", "-c", "echo no > /init/init.sh"])).exitCode, 0);
  assert.equal(fs.readFileSync(source, "utf8"), script);
});

behaviour("a missing source is made, or is refused", async () => {
  const source = path.join(MACHINE, "made", "deep");
  const container = await bound(busybox("echo made > /data/file; echo done; sleep 1000").withBindMounts([{ source, target: "/data" }]).withWaitStrategy(Wait.forLogMessage("done")));
  assert.equal(fs.existsSync(path.dirname(source)), Boolean(container));
  if (container) assert.equal(fs.readFileSync(path.join(source, "file"), "utf8"), "made\n");
});

behaviour("logs as a stream, with both outputs", async () => {
  const container = await start(busybox("echo out; echo err >&2; sleep 1; echo end"));
  const chunks = [];
  for await (const chunk of await container.logs()) chunks.push(chunk.toString());
  const log = chunks.join("");
  assert.ok(log.includes("out") && log.includes("err") && log.includes("end"), log);
});

behaviour("restart keeps the port reachable", async () => {
  const container = await start(new GenericContainer("nginx").withExposedPorts(80));
  await container.restart({ timeout: 1000 });
  assert.match(await retried(() => get(container)), /Welcome to nginx/);
});

behaviour("stop removes, or leaves if it is told to", async () => {
  const one = await busybox().start();
  await one.stop({ timeout: 1000 });
  assert.ok(await gone(one.getId()));
  const two = await busybox().start();
  await two.stop({ remove: false, timeout: 1000 });
  assert.equal((await docker.getContainer(two.getId()).inspect()).State.Status, "exited");
  await docker.getContainer(two.getId()).remove();
});

behaviour("reuse finds the running container", async () => {
  process.env.TESTCONTAINERS_REUSE_ENABLE = "true";
  const reusable = () => busybox("sleep 1001").withLabels({ of: named("reuse") }).withReuse();
  const one = await start(reusable());
  const two = await reusable().start();
  assert.equal(one.getId(), two.getId());
});

behaviour("what cannot start says why", async () => {
  await assert.rejects(new GenericContainer("busybox").withCommand(["nosuchprogram"]).start(), /nosuchprogram/);
  await assert.rejects(new GenericContainer("no/such:1").start(), /no\/such/);
});

behaviour("ten containers at a time", async () => {
  const servers = await Promise.all(Array.from({ length: 10 }, () => start(new GenericContainer("nginx").withExposedPorts(80))));
  for (const server of servers) assert.match(await get(server), /Welcome to nginx/);
});

const SESSION = `
const { GenericContainer, Network } = require("testcontainers");
(async () => {
  const network = await new Network().start();
  const container = await new GenericContainer("busybox").withCommand(["sleep", "1000"]).withNetwork(network).start();
  console.log(container.getId(), network.getId());
  process.exit(0);
})();`;

behaviour("the reaper removes what a session that died has left", async () => {
  // A session finds the reaper of another one that runs: this process holds its own until it ends.
  const environment = { ...process.env, TESTCONTAINERS_RYUK_TEST_LABEL: "true" };
  const reapers = async () => docker.listContainers({ filters: { ancestor: [process.env.RYUK_CONTAINER_IMAGE] } });
  for (const reaper of await reapers()) await docker.getContainer(reaper.Id).remove({ force: true });
  const left = spawnSync(process.execPath, ["-e", SESSION], { env: environment, encoding: "utf8", timeout: 60_000 });
  assert.equal(left.status, 0, left.stderr);
  const [container, network] = left.stdout.trim().split(" ");
  assert.ok(!(await gone(container)));
  await until("all is gone", async () => {
    const networks = await docker.listNetworks({ filters: { id: [network] } });
    return (await gone(container)) && networks.length === 0 && (await reapers()).length === 0;
  }, 40);
});

const stopAll = async () => {
  for (const container of started.splice(0)) {
    await docker.getContainer(container.getId()).remove({ force: true, v: true }).catch(() => {});
  }
};

process.on("exit", () => fs.rmSync(MACHINE, { recursive: true }));
main(`testcontainers-node ${require("testcontainers/package.json").version}`, async () => {}, stopAll);
