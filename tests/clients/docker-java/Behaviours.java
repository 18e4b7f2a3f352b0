// What docker-java's users do, each asserted against what a Docker engine answers. Prints one line a behaviour.

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.async.ResultCallbackTemplate;
import com.github.dockerjava.api.command.CreateContainerCmd;
import com.github.dockerjava.api.command.ExecCreateCmd;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.command.LogContainerCmd;
import com.github.dockerjava.api.command.PullImageResultCallback;
import com.github.dockerjava.api.exception.ConflictException;
import com.github.dockerjava.api.exception.DockerException;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.exception.NotModifiedException;
import com.github.dockerjava.api.model.AccessMode;
import com.github.dockerjava.api.model.AuthConfig;
import com.github.dockerjava.api.model.Bind;
import com.github.dockerjava.api.model.BindOptions;
import com.github.dockerjava.api.model.BindPropagation;
import com.github.dockerjava.api.model.ContainerNetwork;
import com.github.dockerjava.api.model.Event;
import com.github.dockerjava.api.model.ExposedPort;
import com.github.dockerjava.api.model.Frame;
import com.github.dockerjava.api.model.HostConfig;
import com.github.dockerjava.api.model.Mount;
import com.github.dockerjava.api.model.MountType;
import com.github.dockerjava.api.model.Ports;
import com.github.dockerjava.api.model.PruneType;
import com.github.dockerjava.api.model.Statistics;
import com.github.dockerjava.api.model.StreamType;
import com.github.dockerjava.api.model.Volume;
import com.github.dockerjava.api.model.WaitContainerCondition;
import com.github.dockerjava.api.model.WaitResponse;
import com.github.dockerjava.core.DefaultDockerClientConfig;
import com.github.dockerjava.core.DockerClientImpl;
import com.github.dockerjava.httpclient5.ApacheDockerHttpClient;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.PipedInputStream;
import java.io.PipedOutputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.apache.commons.compress.archivers.tar.TarArchiveEntry;
import org.apache.commons.compress.archivers.tar.TarArchiveInputStream;
import org.apache.commons.compress.archivers.tar.TarArchiveOutputStream;

public class Behaviours {
    interface Body {
        void run() throws Exception;
    }

    interface Condition {
        boolean holds() throws Exception;
    }

    static final String RUN = Long.toHexString(System.nanoTime());
    static final Map<String, String> LABELS = Map.of("d2k.clients", RUN);
    static final Map<String, Body> all = new LinkedHashMap<>();
    static DockerClient docker;
    static Path machine;

    static String named(String name) {
        return name + "-" + RUN;
    }

    static void same(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError("<" + got + ">, not <" + wanted + ">");
        }
    }

    static void has(String text, String word) {
        if (text == null || !text.contains(word)) {
            throw new AssertionError("<" + word + "> is not in <" + text + ">");
        }
    }

    static void refused(int status, Body body, String word) throws Exception {
        try {
            body.run();
        } catch (DockerException error) {
            same(error.getHttpStatus(), status);
            has(error.getMessage(), word);
            return;
        }
        throw new AssertionError("not refused with " + status);
    }

    static void until(String what, Condition condition) throws Exception {
        for (int tries = 0; tries < 200; tries++) {
            if (condition.holds()) {
                return;
            }
            Thread.sleep(100);
        }
        throw new AssertionError("not within 20 s: " + what);
    }

    /** Frames as they come, by stream. */
    static class Output extends ResultCallbackTemplate<Output, Frame> {
        final Map<StreamType, StringBuffer> streams = new HashMap<>();

        @Override
        public synchronized void onNext(Frame frame) {
            String text = new String(frame.getPayload(), StandardCharsets.UTF_8);
            streams.computeIfAbsent(frame.getStreamType(), type -> new StringBuffer()).append(text);
        }

        synchronized String of(StreamType type) {
            return streams.getOrDefault(type, new StringBuffer()).toString();
        }

        List<String> apart() throws InterruptedException {
            same(awaitCompletion(60, TimeUnit.SECONDS), true);
            return List.of(of(StreamType.STDOUT), of(StreamType.STDERR));
        }
    }

    /** Things as they come. */
    static class Items<T> extends ResultCallbackTemplate<Items<T>, T> {
        final ConcurrentLinkedQueue<T> items = new ConcurrentLinkedQueue<>();

        @Override
        public void onNext(T item) {
            items.add(item);
        }
    }

    static CreateContainerCmd create(String... command) {
        return docker.createContainerCmd("busybox:latest").withLabels(LABELS).withCmd(command);
    }

    static String start(CreateContainerCmd create) {
        String id = create.exec().getId();
        docker.startContainerCmd(id).exec();
        return id;
    }

    static String idle() {
        return start(create("sleep", "1000"));
    }

    static String script(String text) {
        return start(create("sh", "-c", text));
    }

    static int end(String id, WaitContainerCondition condition) throws InterruptedException {
        Items<WaitResponse> ended = docker.waitContainerCmd(id).withCondition(condition).exec(new Items<>());
        same(ended.awaitCompletion(60, TimeUnit.SECONDS), true);
        return ended.items.element().getStatusCode();
    }

    static List<String> exec(String id, ExecCreateCmd create, InputStream input) throws InterruptedException {
        String made = create.withAttachStdout(true).withAttachStderr(true).withAttachStdin(input != null).exec().getId();
        List<String> output = docker.execStartCmd(made).withStdIn(input).exec(new Output()).apart();
        Long code = docker.inspectExecCmd(made).exec().getExitCodeLong();
        return List.of(output.get(0), output.get(1), String.valueOf(code));
    }

    static List<String> inside(String id, String script) throws InterruptedException {
        return exec(id, docker.execCreateCmd(id).withCmd("sh", "-c", script), null);
    }

    /** Starts what has a bind of a path of this machine, which only an embedded cluster has: on a real one it must be refused, and this gives null. */
    static String bound(HostConfig host) throws Exception {
        CreateContainerCmd create = create("sleep", "1000").withHostConfig(host);
        if (System.getenv("D2K_CLIENTS_CLUSTER").equals("embedded")) {
            return start(create);
        }
        refused(400, create::exec, "bind mounts are not supported");
        refused(400, create::exec, "Use a named volume");
        same(docker.listContainersCmd().withShowAll(true).withLabelFilter(LABELS).exec(), List.of());
        return null;
    }

    static List<Object> shownMount(String id) {
        List<InspectContainerResponse.Mount> mounts = docker.inspectContainerCmd(id).exec().getMounts();
        same(mounts.size(), 1);
        InspectContainerResponse.Mount mount = mounts.get(0);
        // This client does not tell the type, but a volume has a name.
        same(mount.getName(), null);
        return List.of(mount.getSource(), mount.getDestination().getPath(), mount.getMode(), mount.getRW());
    }

    static LogContainerCmd logs(String id) {
        return docker.logContainerCmd(id).withStdOut(true).withStdErr(true);
    }

    static List<String> read(LogContainerCmd logs) throws InterruptedException {
        return logs.exec(new Output()).apart();
    }

    static InputStream archive(String name, String content) throws IOException {
        ByteArrayOutputStream made = new ByteArrayOutputStream();
        try (TarArchiveOutputStream tar = new TarArchiveOutputStream(made)) {
            TarArchiveEntry entry = new TarArchiveEntry(name);
            entry.setSize(content.length());
            tar.putArchiveEntry(entry);
            tar.write(content.getBytes(StandardCharsets.UTF_8));
            tar.closeArchiveEntry();
        }
        return new ByteArrayInputStream(made.toByteArray());
    }

    static Map<String, String> unpacked(InputStream archive) throws IOException {
        Map<String, String> files = new HashMap<>();
        try (TarArchiveInputStream tar = new TarArchiveInputStream(archive)) {
            for (TarArchiveEntry entry = tar.getNextEntry(); entry != null; entry = tar.getNextEntry()) {
                files.put(entry.getName(), new String(tar.readAllBytes(), StandardCharsets.UTF_8));
            }
        }
        return files;
    }

    static void define() {
        all.put("ping, version and info", () -> {
            docker.pingCmd().exec();
            same(docker.versionCmd().exec().getOperatingSystem(), "linux");
            same(docker.infoCmd().exec().getMemTotal() > 0, true);
            same(docker.infoCmd().exec().getNCPU() > 0, true);
        });
        all.put("swarm is refused with 503", () -> {
            refused(503, () -> docker.listServicesCmd().exec(), "This node is not a swarm manager");
            refused(503, () -> docker.listSwarmNodesCmd().exec(), "This node is not a swarm manager");
        });
        all.put("attach before the start, with input, streams apart", () -> {
            // This client never tells the engine that its input has ended.
            CreateContainerCmd cat = create("sh", "-c", "head -n 1; echo err >&2").withStdinOpen(true).withStdInOnce(true);
            String id = cat.withAttachStdin(true).withAttachStdout(true).withAttachStderr(true).exec().getId();
            PipedOutputStream input = new PipedOutputStream();
            Output output = docker.attachContainerCmd(id).withStdOut(true).withStdErr(true).withFollowStream(true)
                .withStdIn(new PipedInputStream(input)).exec(new Output());
            output.awaitStarted(10, TimeUnit.SECONDS);
            docker.startContainerCmd(id).exec();
            input.write("through\n".getBytes(StandardCharsets.UTF_8));
            input.close();
            same(output.apart(), List.of("through\n", "err\n"));
        });
        all.put("exec with output, exit code, user, environment, directory and input", () -> {
            String id = idle();
            ExecCreateCmd cmd = docker.execCreateCmd(id).withCmd("sh", "-c", "echo $A $(pwd) $(id -u); echo err >&2; exit 3");
            cmd.withEnv(List.of("A=x")).withWorkingDir("/tmp").withUser("1000");
            same(exec(id, cmd, null), List.of("x /tmp 1000\n", "err\n", "3"));
            InputStream input = new ByteArrayInputStream("12345\n".getBytes(StandardCharsets.UTF_8));
            same(exec(id, docker.execCreateCmd(id).withCmd("head", "-n", "1"), input), List.of("12345\n", "", "0"));
        });
        all.put("exec with a terminal, and detached", () -> {
            String id = idle();
            String made = docker.execCreateCmd(id).withCmd("tty").withTty(true).withAttachStdout(true).exec().getId();
            Output output = docker.execStartCmd(made).withTty(true).exec(new Output());
            same(output.awaitCompletion(30, TimeUnit.SECONDS), true);
            has(output.streams.toString(), "/dev/pts/");
            made = docker.execCreateCmd(id).withCmd("touch", "/tmp/made").exec().getId();
            docker.execStartCmd(made).withDetach(true).exec(new Output()).awaitCompletion(30, TimeUnit.SECONDS);
            until("the file is there", () -> exec(id, docker.execCreateCmd(id).withCmd("test", "-e", "/tmp/made"), null).get(2).equals("0"));
        });
        all.put("logs whole, by tail, by time, with timestamps, and followed", () -> {
            String id = script("echo 1; echo 2; sleep 2.2; echo 3");
            same(read(logs(id).withFollowStream(true)), List.of("1\n2\n3\n", ""));
            same(read(logs(id).withTail(1)).get(0), "3\n");
            String stamp = read(logs(id).withTail(1).withTimestamps(true)).get(0).split(" ")[0];
            int last = (int) java.time.Instant.parse(stamp).getEpochSecond();
            same(read(logs(id).withSince(last)).get(0), "3\n");
            same(read(logs(id).withUntil(last)).get(0), "1\n2\n");
        });
        all.put("logs tell standard output and error apart", () -> {
            String id = script("echo out; echo err >&2");
            end(id, WaitContainerCondition.NOT_RUNNING);
            same(read(logs(id)), List.of("out\n", "err\n"));
        });
        all.put("archives both ways, and before the start", () -> {
            String id = create("sh", "-c", "cat /etc/early; echo; sleep 1000").exec().getId();
            docker.copyArchiveToContainerCmd(id).withRemotePath("/etc").withTarInputStream(archive("early", "in time")).exec();
            docker.startContainerCmd(id).exec();
            until("it is logged", () -> read(logs(id)).get(0).equals("in time\n"));
            docker.copyArchiveToContainerCmd(id).withRemotePath("/tmp").withTarInputStream(archive("late", "later")).exec();
            same(unpacked(docker.copyArchiveFromContainerCmd(id, "/tmp/late").exec()), Map.of("late", "later"));
            docker.copyArchiveToContainerCmd(id).withRemotePath("/tmp").withHostResource("pom.xml").exec();
            has(unpacked(docker.copyArchiveFromContainerCmd(id, "/tmp/pom.xml").exec()).get("pom.xml"), "docker-java-core");
            refused(404, () -> docker.copyArchiveFromContainerCmd(id, "/nosuch").exec(), "Could not find the file /nosuch");
        });
        all.put("stop, start, restart, kill, rename, update", () -> {
            String id = start(create("sleep", "1000").withName(named("life")));
            docker.restartContainerCmd(id).withTimeout(1).exec();
            docker.renameContainerCmd(id).withName(named("renamed")).exec();
            docker.updateContainerCmd(id).withMemory(96L << 20).withMemorySwap(192L << 20).exec();
            InspectContainerResponse shown = docker.inspectContainerCmd(named("renamed")).exec();
            same(List.of(shown.getId(), shown.getHostConfig().getMemory(), shown.getState().getRunning()), List.of(id, 96L << 20, true));
            docker.stopContainerCmd(id).withTimeout(1).exec();
            try {
                docker.stopContainerCmd(id).exec();
                throw new AssertionError("stopped twice");
            } catch (NotModifiedException expected) {
                docker.startContainerCmd(id).exec();
            }
            try {
                docker.removeContainerCmd(id).exec();
                throw new AssertionError("removed while it runs");
            } catch (ConflictException error) {
                has(error.getMessage(), "container is running");
            }
            docker.killContainerCmd(id).exec();
            same(end(id, WaitContainerCondition.NOT_RUNNING), 137);
            refused(409, () -> docker.killContainerCmd(id).exec(), "is not running");
        });
        all.put("pause and unpause", () -> {
            String id = start(create("sleep", "1000").withHostConfig(HostConfig.newHostConfig().withInit(true)));
            docker.pauseContainerCmd(id).exec();
            same(docker.inspectContainerCmd(id).exec().getState().getPaused(), true);
            docker.unpauseContainerCmd(id).exec();
            same(docker.inspectContainerCmd(id).exec().getState().getPaused(), false);
        });
        all.put("wait for the removal of what removes itself", () -> {
            HostConfig host = HostConfig.newHostConfig().withAutoRemove(true);
            String id = create("sh", "-c", "sleep 1; exit 6").withHostConfig(host).exec().getId();
            Items<WaitResponse> removed = docker.waitContainerCmd(id).withCondition(WaitContainerCondition.REMOVED).exec(new Items<>());
            docker.startContainerCmd(id).exec();
            same(removed.awaitCompletion(60, TimeUnit.SECONDS), true);
            same(removed.items.element().getStatusCode(), 6);
            refused(404, () -> docker.inspectContainerCmd(id).exec(), "No such container");
        });
        all.put("top, changes and stats", () -> {
            String id = idle();
            has(Arrays.deepToString(docker.topContainerCmd(id).exec().getProcesses()), "1000");
            docker.containerDiffCmd(id).exec();
            Items<Statistics> samples = docker.statsCmd(id).exec(new Items<>());
            until("two samples", () -> samples.items.size() >= 2);
            samples.close();
            Statistics once = docker.statsCmd(id).withNoStream(true).exec(new Items<Statistics>() {}).awaitCompletion().items.element();
            same(once.getCpuStats().getSystemCpuUsage() > 0 && once.getPreCpuStats().getSystemCpuUsage() > 0, true);
        });
        all.put("commit and build are refused with what to do instead", () -> {
            String id = idle();
            refused(501, () -> docker.commitCmd(id).withRepository("some/thing").exec(), "commit");
            InputStream context = archive("Dockerfile", "FROM busybox");
            refused(501, () -> docker.buildImageCmd(context).start().awaitImageId(), "build");
        });
        all.put("ports that answer at once", () -> {
            ExposedPort port = ExposedPort.tcp(80);
            HostConfig host = HostConfig.newHostConfig().withPortBindings(new Ports(port, Ports.Binding.empty()));
            CreateContainerCmd server = docker.createContainerCmd("nginx:latest").withLabels(LABELS).withExposedPorts(port);
            String id = start(server.withHostConfig(host));
            String shown = docker.inspectContainerCmd(id).exec().getNetworkSettings().getPorts().getBindings().get(port)[0].getHostPortSpec();
            String address = URI.create(System.getenv("DOCKER_HOST")).getHost();
            try (InputStream page = URI.create("http://" + address + ":" + shown + "/").toURL().openStream()) {
                has(new String(page.readAllBytes(), StandardCharsets.UTF_8), "Welcome to nginx");
            }
        });
        all.put("containers by filters", () -> {
            String id = start(create("sleep", "1000").withName(named("listed")));
            same(docker.listContainersCmd().withLabelFilter(LABELS).exec().get(0).getId(), id);
            same(docker.listContainersCmd().withNameFilter(List.of(named("listed"))).withShowSize(true).exec().get(0).getState(), "running");
            same(docker.listContainersCmd().withStatusFilter(List.of("exited")).withLabelFilter(LABELS).exec().size(), 0);
        });
        all.put("events by filter, live and from the past", () -> {
            String since = String.valueOf(System.currentTimeMillis() / 1000 - 1);
            Items<Event> live = docker.eventsCmd().withLabelFilter("events=" + RUN).exec(new Items<>());
            Thread.sleep(300);
            String id = start(create("true").withLabels(Map.of("d2k.clients", RUN, "events", RUN)));
            end(id, WaitContainerCondition.NOT_RUNNING);
            docker.removeContainerCmd(id).exec();
            until("four events", () -> live.items.size() >= 4);
            live.close();
            List<String> wanted = List.of("create", "start", "die", "destroy");
            same(live.items.stream().map(Event::getAction).toList(), wanted);
            String now = String.valueOf(System.currentTimeMillis() / 1000 + 1);
            Items<Event> past = docker.eventsCmd().withSince(since).withUntil(now).withContainerFilter(id).exec(new Items<>());
            same(past.awaitCompletion(20, TimeUnit.SECONDS), true);
            same(past.items.stream().map(Event::getAction).toList(), wanted);
        });
        all.put("images pulled with progress, listed, inspected, tagged, removed", () -> {
            docker.pullImageCmd("busybox").withTag("latest").exec(new PullImageResultCallback()).awaitCompletion();
            String id = docker.inspectImageCmd("busybox").exec().getId();
            docker.tagImageCmd("busybox", named("tagged"), "1").exec();
            same(docker.inspectImageCmd(named("tagged") + ":1").exec().getId(), id);
            docker.removeImageCmd(named("tagged") + ":1").exec();
            refused(404, () -> docker.inspectImageCmd(named("tagged") + ":1").exec(), "No such image");
            same(docker.listImagesCmd().withImageNameFilter("busybox").exec().isEmpty(), false);
            try {
                docker.pullImageCmd("no/such-" + RUN).withTag("1").start().awaitCompletion();
            } catch (NotFoundException expected) {
                return;
            }
            throw new AssertionError("no error");
        });
        all.put("volumes made, listed, used, removed", () -> {
            docker.createVolumeCmd().withName(named("data")).withLabels(LABELS).exec();
            HostConfig host = HostConfig.newHostConfig().withBinds(new Bind(named("data"), new Volume("/data")));
            String id = start(create("sh", "-c", "echo kept > /data/f && cat /data/f").withHostConfig(host));
            same(end(id, WaitContainerCondition.NOT_RUNNING), 0);
            refused(409, () -> docker.removeVolumeCmd(named("data")).exec(), "volume is in use");
            docker.removeContainerCmd(id).withForce(true).exec();
            same(docker.inspectVolumeCmd(named("data")).exec().getDriver(), "local");
            same(docker.listVolumesCmd().withFilter("label", List.of("d2k.clients=" + RUN)).exec().getVolumes().size(), 1);
            docker.removeVolumeCmd(named("data")).exec();
            refused(404, () -> docker.inspectVolumeCmd(named("data")).exec(), "no such volume");
        });
        all.put("networks made, joined, left, removed", () -> {
            String network = docker.createNetworkCmd().withName(named("net")).withCheckDuplicate(true).withLabels(LABELS).exec().getId();
            String id = idle();
            ContainerNetwork endpoint = new ContainerNetwork().withAliases("friend");
            docker.connectToNetworkCmd().withNetworkId(network).withContainerId(id).withContainerNetwork(endpoint).exec();
            same(docker.inspectNetworkCmd().withNetworkId(network).exec().getContainers().keySet(), java.util.Set.of(id));
            refused(403, () -> docker.removeNetworkCmd(network).exec(), "active endpoints");
            docker.disconnectFromNetworkCmd().withNetworkId(network).withContainerId(id).exec();
            docker.removeNetworkCmd(network).exec();
            refused(404, () -> docker.inspectNetworkCmd().withNetworkId(network).exec(), "not found");
        });
        all.put("a login", () -> {
            String registry = System.getenv().getOrDefault("D2K_CLIENTS_REGISTRY", "127.0.0.1:5000");
            AuthConfig login = new AuthConfig().withUsername("someone").withPassword("secret").withRegistryAddress(registry);
            same(docker.authCmd().withAuthConfig(login).exec().getStatus(), "Login Succeeded");
        });
        all.put("prune by label", () -> {
            String id = start(create("true").withLabels(Map.of("d2k.clients", RUN, "prune", RUN)));
            end(id, WaitContainerCondition.NOT_RUNNING);
            docker.pruneCmd(PruneType.CONTAINERS).withLabelFilter("prune=" + RUN).exec();
            refused(404, () -> docker.inspectContainerCmd(id).exec(), "No such container");
        });
    }

    static void defineBinds() {
        all.put("a folder of the machine, in Binds, is seen from both sides, or is refused", () -> {
            Path here = Files.createDirectory(machine.resolve("both"));
            Files.writeString(here.resolve("first"), "from the machine");
            Bind bind = new Bind(here.toString(), new Volume("/data"));
            String id = bound(HostConfig.newHostConfig().withBinds(bind));
            if (id == null) {
                return;
            }
            same(inside(id, "cat /data/first"), List.of("from the machine", "", "0"));
            same(inside(id, "echo inside > /data/second; chown 1000:1001 /data/second"), List.of("", "", "0"));
            same(Files.readString(here.resolve("second")), "inside\n");
            same(Files.getAttribute(here.resolve("second"), "unix:uid"), 1000);
            Files.writeString(here.resolve("first"), "changed");
            same(inside(id, "cat /data/first; rm /data/first"), List.of("changed", "", "0"));
            same(Files.exists(here.resolve("first")), false);
            same(shownMount(id), List.of(here.toString(), "/data", "rw", true));
            same(List.of(docker.inspectContainerCmd(id).exec().getHostConfig().getBinds()), List.of(bind));
        });
        all.put("a single file, read-only, or it is refused", () -> {
            Path file = Files.writeString(machine.resolve("app.conf"), "one");
            Bind bind = new Bind(file.toString(), new Volume("/etc/app/app.conf"), AccessMode.ro);
            String id = bound(HostConfig.newHostConfig().withBinds(bind));
            if (id == null) {
                return;
            }
            List<String> tried = inside(id, "cat /etc/app/app.conf; echo two > /etc/app/app.conf");
            same(List.of(tried.get(0), tried.get(2), Files.readString(file)), List.of("one", "1", "one"));
            has(tried.get(1), "Read-only file system");
            same(shownMount(id), List.of(file.toString(), "/etc/app/app.conf", "ro", false));
        });
        all.put("a bind in Mounts, with its options, or it is refused", () -> {
            Path here = Files.createDirectory(machine.resolve("mounts"));
            Files.writeString(here.resolve("file"), "text");
            Mount mount = new Mount().withType(MountType.BIND).withSource(here.toString()).withTarget("/data").withReadOnly(true);
            mount.withBindOptions(new BindOptions().withPropagation(BindPropagation.PRIVATE));
            String id = bound(HostConfig.newHostConfig().withMounts(List.of(mount)));
            if (id == null) {
                return;
            }
            List<String> tried = inside(id, "cat /data/file; touch /data/new");
            same(List.of(tried.get(0), tried.get(2), Files.exists(here.resolve("new"))), List.of("text", "1", false));
            same(shownMount(id), List.of(here.toString(), "/data", "", false));
            same(docker.inspectContainerCmd(id).exec().getHostConfig().getMounts(), List.of(mount));
        });
        all.put("a missing source is made for Binds, and refused for Mounts, or both are refused", () -> {
            Path made = machine.resolve("made/deep");
            Path none = machine.resolve("none");
            Mount mount = new Mount().withType(MountType.BIND).withSource(none.toString()).withTarget("/data");
            HostConfig mounts = HostConfig.newHostConfig().withMounts(List.of(mount));
            String id = bound(HostConfig.newHostConfig().withBinds(new Bind(made.toString(), new Volume("/data"))));
            if (id == null) {
                same(bound(mounts), null);
            } else {
                inside(id, "echo made > /data/file");
                same(Files.readString(made.resolve("file")), "made\n");
                refused(400, () -> create("true").withHostConfig(mounts).exec(), "bind source path does not exist: " + none);
            }
            same(List.of(Files.exists(made), Files.exists(none)), List.of(id != null, false));
        });
    }

    static void clean() {
        docker.listContainersCmd().withShowAll(true).withLabelFilter(LABELS).exec().forEach(container -> {
            try {
                docker.removeContainerCmd(container.getId()).withForce(true).withRemoveVolumes(true).exec();
            } catch (DockerException gone) {
                // It removes itself.
            }
        });
    }

    public static void main(String[] arguments) throws Exception {
        DefaultDockerClientConfig config = DefaultDockerClientConfig.createDefaultConfigBuilder().build();
        docker = DockerClientImpl.getInstance(config, new ApacheDockerHttpClient.Builder().dockerHost(config.getDockerHost()).build());
        machine = Files.createTempDirectory("d2k-");
        define();
        defineBinds();
        String jar = DockerClientImpl.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        System.out.println("# docker-java " + jar.replaceAll(".*-([0-9.]+)\\.jar", "$1"));
        for (String image : List.of("busybox", "nginx")) {
            docker.pullImageCmd(image).withTag("latest").exec(new PullImageResultCallback()).awaitCompletion();
        }
        int failed = 0;
        for (Map.Entry<String, Body> one : all.entrySet()) {
            if (arguments.length > 0 && !one.getKey().contains(arguments[0].replace("only=", ""))) {
                continue;
            }
            try {
                one.getValue().run();
                System.out.println("ok - " + one.getKey());
            } catch (Throwable error) {
                failed++;
                String words = error.toString().replaceAll("\\s+", " ");
                System.out.println("not ok - " + one.getKey() + ": " + words.substring(0, Math.min(400, words.length())));
            }
            clean();
        }
        try (Stream<Path> made = Files.walk(machine)) {
            made.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
        }
        System.exit(failed > 0 ? 1 : 0);
    }
}
