// What users of Testcontainers for Java do. Prints one line a behaviour.

import com.github.dockerjava.api.DockerClient;
import com.github.dockerjava.api.command.InspectContainerResponse;
import com.github.dockerjava.api.exception.NotFoundException;
import com.github.dockerjava.api.model.HealthCheck;
import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import org.testcontainers.DockerClientFactory;
import org.testcontainers.containers.BindMode;
import org.testcontainers.containers.Container;
import org.testcontainers.containers.ExecConfig;
import org.testcontainers.containers.GenericContainer;
import org.testcontainers.containers.Network;
import org.testcontainers.containers.output.OutputFrame;
import org.testcontainers.containers.output.ToStringConsumer;
import org.testcontainers.containers.startupcheck.OneShotStartupCheckStrategy;
import org.testcontainers.containers.wait.strategy.Wait;
import org.testcontainers.containers.wait.strategy.WaitAllStrategy;
import org.testcontainers.images.builder.Transferable;
import org.testcontainers.utility.MountableFile;

public class Behaviours {
    interface Body {
        void run() throws Exception;
    }

    static final Map<String, Body> all = new LinkedHashMap<>();
    static final List<GenericContainer<?>> started = new ArrayList<>();
    static Path machine;

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

    static String words(Throwable error) {
        StringBuilder words = new StringBuilder();
        for (Throwable cause = error; cause != null; cause = cause.getCause()) {
            words.append(cause).append("; ");
        }
        return words.toString();
    }

    static GenericContainer<?> image(String name) {
        GenericContainer<?> container = new GenericContainer<>(name);
        synchronized (started) {
            started.add(container);
        }
        return container;
    }

    static GenericContainer<?> script(String text) {
        return image("busybox:latest").withCommand("sh", "-c", text);
    }

    static GenericContainer<?> idle() {
        return script("sleep 1000");
    }

    static String get(GenericContainer<?> from, String path) throws IOException, InterruptedException {
        URI address = URI.create("http://" + from.getHost() + ":" + from.getMappedPort(80) + path);
        HttpRequest request = HttpRequest.newBuilder(address).timeout(Duration.ofSeconds(10)).build();
        return HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    }

    static DockerClient docker() {
        return DockerClientFactory.instance().client();
    }

    static boolean there(Callable<?> inspect) throws Exception {
        try {
            inspect.call();
            return true;
        } catch (NotFoundException gone) {
            return false;
        }
    }

    static void define() {
        all.put("a mapped port is reachable at the host of DOCKER_HOST at once", () -> {
            GenericContainer<?> server = image("nginx:latest").withExposedPorts(80);
            server.start();
            same(server.getHost(), URI.create(System.getenv("DOCKER_HOST")).getHost());
            has(get(server, "/"), "Welcome to nginx");
        });
        all.put("waiting for a port, which opens late", () -> {
            GenericContainer<?> server = script("sleep 1; httpd -f -p 80 -h /etc").withExposedPorts(80);
            server.waitingFor(Wait.forListeningPort()).start();
            has(get(server, "/passwd"), "root:");
        });
        all.put("waiting for the log, by pattern, and several times", () -> {
            String text = "echo one; sleep 0.5; echo port 42 is open; echo again; echo again; sleep 1000";
            script(text).waitingFor(Wait.forLogMessage(".*port \\d+ is open.*", 1)).start();
            script(text).waitingFor(Wait.forLogMessage(".*again.*", 2)).start();
        });
        all.put("waiting for http, by status and answer", () -> {
            GenericContainer<?> server = script("sleep 1; mkdir /w; echo yes > /w/well; httpd -f -p 80 -h /w");
            server.withExposedPorts(80);
            server.waitingFor(Wait.forHttp("/well").forStatusCode(200).forResponsePredicate("yes"::equals)).start();
        });
        all.put("waiting for health", () -> {
            HealthCheck check = new HealthCheck().withTest(List.of("CMD-SHELL", "test -e /tmp/well"));
            check.withInterval(300_000_000L).withRetries(30);
            GenericContainer<?> healthy = script("sleep 1; touch /tmp/well; sleep 1000");
            healthy.withCreateContainerCmdModifier(create -> create.withHealthcheck(check));
            healthy.waitingFor(Wait.forHealthcheck()).start();
            same(healthy.isHealthy(), true);
        });
        all.put("waiting for a command, and for several things", () -> {
            script("sleep 1; touch /tmp/well; sleep 1000").waitingFor(Wait.forSuccessfulCommand("test -e /tmp/well")).start();
            WaitAllStrategy both = new WaitAllStrategy().withStrategy(Wait.forListeningPort());
            both.withStrategy(Wait.forLogMessage(".*ready.*", 1));
            script("echo ready; httpd -f -p 80").withExposedPorts(80).waitingFor(both).start();
        });
        all.put("waiting in vain ends with an error", () -> {
            GenericContainer<?> never = idle().waitingFor(Wait.forLogMessage(".*never.*", 1));
            try {
                never.withStartupTimeout(Duration.ofSeconds(2)).start();
            } catch (RuntimeException error) {
                has(words(error), "Timed out waiting for log output");
                return;
            }
            throw new AssertionError("no error");
        });
        all.put("one shot that ends well", () -> {
            GenericContainer<?> once = script("echo done").withStartupCheckStrategy(new OneShotStartupCheckStrategy());
            once.start();
            has(once.getLogs(), "done");
        });
        all.put("exec with streams apart, exit code and options", () -> {
            GenericContainer<?> in = idle();
            in.start();
            Container.ExecResult result = in.execInContainer("sh", "-c", "echo out; echo err >&2; exit 3");
            same(List.of(result.getExitCode(), result.getStdout(), result.getStderr()), List.of(3, "out\n", "err\n"));
            ExecConfig config = ExecConfig.builder().command(new String[] {"sh", "-c", "echo $A $(pwd) $(id -u)"})
                .envVars(Map.of("A", "x")).workDir("/tmp").user("1000").build();
            same(in.execInContainer(config).getStdout(), "x /tmp 1000\n");
        });
        all.put("files copied before the start, after it, and back", () -> {
            GenericContainer<?> in = script("cat /etc/early; echo; sleep 1000");
            in.withCopyToContainer(Transferable.of("in time", 0640), "/etc/early");
            in.waitingFor(Wait.forLogMessage(".*in time.*", 1)).start();
            same(in.execInContainer("stat", "-c", "%a", "/etc/early").getStdout(), "640\n");
            in.copyFileToContainer(MountableFile.forHostPath("Behaviours.java"), "/tmp/d/late");
            String line = in.execInContainer("head", "-n", "1", "/tmp/d/late").getStdout();
            has(line, "What users of Testcontainers for Java do");
            String back = in.copyFileFromContainer("/etc/early", it -> new String(it.readAllBytes(), StandardCharsets.UTF_8));
            same(back, "in time");
        });
        all.put("a network with aliases", () -> {
            try (Network network = Network.newNetwork()) {
                image("nginx:latest").withNetwork(network).withNetworkAliases("web", "other").start();
                GenericContainer<?> from = idle().withNetwork(network);
                from.start();
                for (String name : List.of("web", "other")) {
                    String ask = "for i in $(seq 50); do wget -qO- http://" + name + "/ && exit; sleep 0.1; done";
                    has(from.execInContainer("sh", "-c", ask).getStdout(), "Welcome to nginx");
                }
                stop();
            }
        });
        all.put("environment, labels, directory, tmpfs and shared memory", () -> {
            GenericContainer<?> in = script("echo $A $(pwd); sleep 1000").withEnv("A", "x").withLabel("a.Label", "its value");
            in.withWorkingDirectory("/tmp").withTmpFs(Map.of("/scratch", "rw,size=8m")).withSharedMemorySize(32L << 20);
            in.waitingFor(Wait.forLogMessage("x /tmp\n", 1)).start();
            same(in.getContainerInfo().getConfig().getLabels().get("a.Label"), "its value");
            has(in.execInContainer("df", "/scratch").getStdout(), "tmpfs");
            has(in.execInContainer("df", "-k", "/dev/shm").getStdout(), "32768");
        });
        all.put("a consumer of the log, with streams apart", () -> {
            ConcurrentLinkedQueue<String> lines = new ConcurrentLinkedQueue<>();
            GenericContainer<?> in = script("echo out; sleep 0.3; echo err >&2; sleep 0.3; echo end; sleep 1000");
            in.withLogConsumer(frame -> lines.add(frame.getType() + " " + frame.getUtf8StringWithoutLineEnding()));
            in.waitingFor(Wait.forLogMessage(".*end.*", 1)).start();
            for (int tries = 0; tries < 50 && lines.size() < 3; tries++) {
                Thread.sleep(100);
            }
            same(List.copyOf(lines), List.of("STDOUT out", "STDERR err", "STDOUT end"));
            same(in.getLogs(OutputFrame.OutputType.STDERR), "err\n");
        });
        all.put("a log followed to its end", () -> {
            GenericContainer<?> in = script("for i in 1 2 3; do echo $i; sleep 0.3; done");
            ToStringConsumer consumer = new ToStringConsumer();
            in.withLogConsumer(consumer).withStartupCheckStrategy(new OneShotStartupCheckStrategy());
            in.start();
            for (int tries = 0; tries < 50 && !consumer.toUtf8String().contains("3"); tries++) {
                Thread.sleep(100);
            }
            same(consumer.toUtf8String().replace("\n", ""), "123");
        });
        all.put("stop removes the container", () -> {
            GenericContainer<?> in = idle();
            in.start();
            String id = in.getContainerId();
            in.stop();
            same(there(() -> docker().inspectContainerCmd(id).exec()), false);
        });
        all.put("reuse finds the running container", () -> {
            String label = "reuse-" + System.nanoTime();
            GenericContainer<?> one = idle().withLabel("of", label).withReuse(true);
            GenericContainer<?> two = new GenericContainer<>("busybox:latest").withCommand("sh", "-c", "sleep 1000");
            two.withLabel("of", label).withReuse(true);
            one.start();
            two.start();
            same(two.getContainerId(), one.getContainerId());
        });
        all.put("what cannot start says why", () -> {
            Map<String, GenericContainer<?>> bad = Map.of(
                "nosuchprogram", image("busybox:latest").withCommand("nosuchprogram"), "no/such", image("no/such:1"));
            for (Map.Entry<String, GenericContainer<?>> one : bad.entrySet()) {
                try {
                    one.getValue().start();
                } catch (RuntimeException error) {
                    has(words(error), one.getKey());
                    continue;
                }
                throw new AssertionError("no error");
            }
        });
        all.put("ten containers at a time", () -> {
            List<String> pages = IntStream.range(0, 10).parallel().mapToObj(number -> {
                try {
                    GenericContainer<?> server = image("nginx:latest").withExposedPorts(80);
                    server.start();
                    return get(server, "/");
                } catch (IOException | InterruptedException error) {
                    return error.toString();
                }
            }).toList();
            pages.forEach(page -> has(page, "Welcome to nginx"));
        });
        all.put("the reaper removes what a session that died has left", () -> {
            List<String> command = List.of(
                ProcessHandle.current().info().command().orElseThrow(), "-cp", System.getProperty("java.class.path"), "Behaviours.java", "session");
            Process session = new ProcessBuilder(command).redirectError(ProcessBuilder.Redirect.DISCARD).start();
            String[] left = new String(session.getInputStream().readAllBytes(), StandardCharsets.UTF_8).trim().split(" ");
            same(left.length, 2);
            same(there(() -> docker().inspectContainerCmd(left[0]).exec()), true);
            for (int tries = 0; tries < 80; tries++) {
                if (!there(() -> docker().inspectContainerCmd(left[0]).exec())
                    && !there(() -> docker().inspectNetworkCmd().withNetworkId(left[1]).exec())) {
                    return;
                }
                Thread.sleep(500);
            }
            throw new AssertionError("still there");
        });
    }

    /** Starts what has a bind of a path of this machine, which only an embedded cluster has: on a real one it must be refused, and this is false. */
    static boolean bound(GenericContainer<?> container) {
        if (System.getenv("D2K_CLIENTS_CLUSTER").equals("embedded")) {
            container.start();
            return true;
        }
        try {
            container.start();
        } catch (RuntimeException error) {
            has(words(error), "bind mounts are not supported");
            has(words(error), "Use a named volume");
            return false;
        }
        throw new AssertionError("no error");
    }

    static void defineBinds() {
        all.put("a folder of the machine is seen from both sides, or is refused", () -> {
            Path here = Files.createDirectory(machine.resolve("both"));
            Files.writeString(here.resolve("first"), "from the machine");
            GenericContainer<?> in = idle().withFileSystemBind(here.toString(), "/data", BindMode.READ_WRITE);
            if (!bound(in)) {
                return;
            }
            same(in.execInContainer("cat", "/data/first").getStdout(), "from the machine");
            same(in.execInContainer("sh", "-c", "echo inside > /data/second").getExitCode(), 0);
            same(Files.readString(here.resolve("second")), "inside\n");
            Files.writeString(here.resolve("first"), "changed");
            same(in.execInContainer("cat", "/data/first").getStdout(), "changed");
            List<InspectContainerResponse.Mount> mounts = in.getCurrentContainerInfo().getMounts();
            InspectContainerResponse.Mount mount = mounts.get(0);
            List<Object> shown = List.of(mounts.size(), mount.getSource(), mount.getDestination().getPath(), mount.getRW());
            same(shown, List.of(1, here.toString(), "/data", true));
            in.stop();
            same(Files.readString(here.resolve("second")), "inside\n");
        });
        all.put("a single file, read-only, beside those that are copied, or it is refused", () -> {
            Path file = Files.writeString(machine.resolve("app.conf"), "one");
            GenericContainer<?> in = idle().withFileSystemBind(file.toString(), "/etc/app/bound", BindMode.READ_ONLY);
            in.withCopyFileToContainer(MountableFile.forHostPath(file), "/etc/app/copied");
            // Also copied, since it is read-only.
            in.withClasspathResourceMapping("pom.xml", "/etc/app/pom.xml", BindMode.READ_ONLY);
            if (!bound(in)) {
                return;
            }
            same(in.execInContainer("cat", "/etc/app/bound", "/etc/app/copied").getStdout(), "oneone");
            same(in.execInContainer("cat", "/etc/app/pom.xml").getStdout(), Files.readString(Path.of("pom.xml")));
            has(in.execInContainer("sh", "-c", "echo no > /etc/app/bound").getStderr(), "Read-only file system");
            same(in.execInContainer("sh", "-c", "echo two > /etc/app/copied").getExitCode(), 0);
            Files.writeString(file, "three");
            same(in.execInContainer("cat", "/etc/app/bound", "/etc/app/copied").getStdout(), "threetwo\n");
        });
        all.put("a bind taken from another container, read-only, or it is refused", () -> {
            Path here = Files.createDirectory(machine.resolve("taken"));
            GenericContainer<?> holder = idle().withFileSystemBind(here.toString(), "/data");
            if (!bound(holder)) {
                return;
            }
            same(holder.execInContainer("sh", "-c", "echo kept > /data/file").getExitCode(), 0);
            GenericContainer<?> in = idle().withVolumesFrom(holder, BindMode.READ_ONLY);
            in.start();
            same(in.execInContainer("cat", "/data/file").getStdout(), "kept\n");
            has(in.execInContainer("touch", "/data/new").getStderr(), "Read-only file system");
        });
        all.put("a missing source is made, or is refused", () -> {
            Path missing = machine.resolve("made/deep");
            GenericContainer<?> in = script("echo made > /data/file; echo done; sleep 1000");
            in.withFileSystemBind(missing.toString(), "/data").waitingFor(Wait.forLogMessage(".*done.*", 1));
            boolean there = bound(in);
            same(Files.exists(missing.getParent()), there);
            if (there) {
                same(Files.readString(missing.resolve("file")), "made\n");
            }
        });
    }

    /** Starts what the reaper has to remove, and ends without a word. */
    static void leave() {
        Network network = Network.newNetwork();
        GenericContainer<?> container = idle().withNetwork(network);
        container.start();
        System.out.println(container.getContainerId() + " " + network.getId());
        System.out.flush();
        Runtime.getRuntime().halt(0);
    }

    static void stop() {
        synchronized (started) {
            started.forEach(container -> {
                if (container.getContainerId() != null) {
                    // Also one that may be reused, which stop() leaves.
                    docker().removeContainerCmd(container.getContainerId()).withForce(true).withRemoveVolumes(true).exec();
                }
            });
            started.clear();
        }
    }

    public static void main(String[] arguments) throws IOException {
        if (arguments.length > 0 && arguments[0].equals("session")) {
            leave();
        }
        machine = Files.createTempDirectory("d2k-");
        define();
        defineBinds();
        String jar = GenericContainer.class.getProtectionDomain().getCodeSource().getLocation().getPath();
        System.out.println("# testcontainers-java " + jar.replaceAll(".*-([0-9.]+)\\.jar", "$1"));
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
                String words = words(error).replaceAll("\\s+", " ");
                System.out.println("not ok - " + one.getKey() + ": " + words.substring(0, Math.min(400, words.length())));
            }
            try {
                stop();
            } catch (RuntimeException gone) {
                started.clear();
            }
        }
        try (Stream<Path> made = Files.walk(machine)) {
            made.sorted(Comparator.reverseOrder()).forEach(path -> path.toFile().delete());
        }
        System.exit(failed > 0 ? 1 : 0);
    }
}
