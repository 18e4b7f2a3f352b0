// What users of Testcontainers for Go do.
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"
	"github.com/testcontainers/testcontainers-go"
	tcexec "github.com/testcontainers/testcontainers-go/exec"
	tclog "github.com/testcontainers/testcontainers-go/log"
	"github.com/testcontainers/testcontainers-go/network"
	"github.com/testcontainers/testcontainers-go/wait"
)

// With their registry: what has none gets the prefix that leads to the reaper's image.
var (
	busybox = registry() + "/library/busybox:latest"
	nginx   = registry() + "/library/nginx:latest"
)

func registry() string {
	if given := os.Getenv("D2K_CLIENTS_REGISTRY"); given != "" {
		return given
	}
	return "127.0.0.1:5000"
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

func same(got, wanted any) {
	if !reflect.DeepEqual(got, wanted) {
		panic(fmt.Sprintf("%#v, not %#v", got, wanted))
	}
}

func has(text, word string) {
	if !strings.Contains(text, word) {
		panic(fmt.Sprintf("%q is not in %q", word, text))
	}
}

type session struct {
	context.Context
	sync.Mutex
	started []testcontainers.Container
}

func (s *session) run(image string, options ...testcontainers.ContainerCustomizer) testcontainers.Container {
	made, err := testcontainers.Run(s, image, options...)
	if made != nil {
		s.Lock()
		s.started = append(s.started, made)
		s.Unlock()
	}
	check(err)
	return made
}

func (s *session) script(text string, options ...testcontainers.ContainerCustomizer) testcontainers.Container {
	return s.run(busybox, append(options, testcontainers.WithCmd("sh", "-c", text))...)
}

func (s *session) idle(options ...testcontainers.ContainerCustomizer) testcontainers.Container {
	return s.script("sleep 1000", options...)
}

// bound starts what has binds of paths of this machine, which only an embedded cluster has: on a real one it must be refused, and this gives nothing.
func (s *session) bound(options ...testcontainers.ContainerCustomizer) testcontainers.Container {
	if os.Getenv("D2K_CLIENTS_CLUSTER") == "embedded" {
		return s.idle(options...)
	}
	made, err := testcontainers.Run(s, busybox, options...)
	check(testcontainers.TerminateContainer(made))
	has(fmt.Sprint(err), "bind mounts are not supported")
	has(fmt.Sprint(err), "Use a named volume")
	return nil
}

func binds(all ...string) testcontainers.ContainerCustomizer {
	return testcontainers.WithHostConfigModifier(func(host *container.HostConfig) { host.Binds = all })
}

func mounts(all ...mount.Mount) testcontainers.ContainerCustomizer {
	return testcontainers.WithHostConfigModifier(func(host *container.HostConfig) { host.Mounts = all })
}

func folder() string {
	return must(os.MkdirTemp("", "d2k-"))
}

func write(folder, name, content string) {
	check(os.WriteFile(filepath.Join(folder, name), []byte(content), 0o644))
}

func read(folder, name string) string {
	return string(must(os.ReadFile(filepath.Join(folder, name))))
}

func (s *session) exec(in testcontainers.Container, options []tcexec.ProcessOption, command ...string) (int, string) {
	code, output, err := in.Exec(s, command, append(options, tcexec.Multiplexed())...)
	check(err)
	return code, string(must(io.ReadAll(output)))
}

func (s *session) get(from testcontainers.Container, path string) string {
	endpoint := must(from.PortEndpoint(s, "80/tcp", "http"))
	answer := must(http.Get(endpoint + path))
	defer answer.Body.Close()
	return string(must(io.ReadAll(answer.Body)))
}

var serves = testcontainers.WithExposedPorts("80/tcp")

func waitFor(strategies ...wait.Strategy) testcontainers.ContainerCustomizer {
	return testcontainers.WithWaitStrategyAndDeadline(60*time.Second, strategies...)
}

type behaviour struct {
	name string
	body func(s *session)
}

var behaviours = []behaviour{
	{"a mapped port is reachable at the host of DOCKER_HOST at once", func(s *session) {
		server := s.run(nginx, serves)
		same(must(server.Host(s)), must(url.Parse(os.Getenv("DOCKER_HOST"))).Hostname())
		has(s.get(server, "/"), "Welcome to nginx")
	}},
	{"waiting for the log, by text, by pattern, and several times", func(s *session) {
		text := "echo one; sleep 0.5; echo port 42 is open; echo again; echo again; sleep 1000"
		s.script(text, waitFor(wait.ForLog("port 42 is open")))
		s.script(text, waitFor(wait.ForLog(`port \d+ is`).AsRegexp()))
		s.script(text, waitFor(wait.ForLog("again").WithOccurrence(2)))
	}},
	{"waiting for a port, which opens late", func(s *session) {
		begin := time.Now()
		server := s.script("sleep 1; httpd -f -p 80 -h /etc", serves, waitFor(wait.ForListeningPort("80/tcp")))
		same(time.Since(begin) > time.Second, true)
		has(s.get(server, "/passwd"), "root:")
	}},
	{"waiting for http, by status and answer", func(s *session) {
		matches := func(body io.Reader) bool { return string(must(io.ReadAll(body))) == "yes\n" }
		strategy := wait.ForHTTP("/well").WithPort("80/tcp").WithResponseMatcher(matches)
		s.script("sleep 1; mkdir /w; echo yes > /w/well; httpd -f -p 80 -h /w", serves, waitFor(strategy))
	}},
	{"waiting for health", func(s *session) {
		health := testcontainers.WithConfigModifier(func(config *container.Config) {
			config.Healthcheck = &container.HealthConfig{Test: []string{"CMD-SHELL", "test -e /tmp/well"}, Interval: 300 * time.Millisecond, Retries: 30}
		})
		healthy := s.script("sleep 1; touch /tmp/well; sleep 1000", health, waitFor(wait.ForHealthCheck()))
		same(must(healthy.State(s)).Health.Status, container.Healthy)
	}},
	{"waiting for a command, for a file, and for the end", func(s *session) {
		text := "sleep 1; echo yes > /tmp/well; sleep 1000"
		s.script(text, waitFor(wait.ForExec([]string{"test", "-e", "/tmp/well"})))
		s.script(text, waitFor(wait.ForFile("/tmp/well")))
		ended := s.script("sleep 1; exit 4", waitFor(wait.ForExit()))
		same(must(ended.State(s)).ExitCode, 4)
	}},
	{"waiting in vain ends with an error", func(s *session) {
		vain := testcontainers.WithWaitStrategyAndDeadline(2*time.Second, wait.ForLog("never"))
		made, err := testcontainers.Run(s, busybox, testcontainers.WithCmd("sleep", "1000"), vain)
		check(testcontainers.TerminateContainer(made))
		if err == nil {
			panic("no error")
		}
		has(err.Error(), "wait until ready")
	}},
	{"exec with output, exit code and options", func(s *session) {
		in := s.idle()
		code, output := s.exec(in, nil, "sh", "-c", "echo out; exit 3")
		same([]any{code, output}, []any{3, "out\n"})
		options := []tcexec.ProcessOption{tcexec.WithUser("1000"), tcexec.WithWorkingDir("/tmp"), tcexec.WithEnv([]string{"A=x"})}
		_, output = s.exec(in, options, "sh", "-c", "echo $A $(pwd) $(id -u)")
		same(output, "x /tmp 1000\n")
	}},
	{"files copied before the start, after it, and back", func(s *session) {
		early := testcontainers.ContainerFile{Reader: strings.NewReader("in time\n"), ContainerFilePath: "/etc/early", FileMode: 0o640}
		in := s.script("cat /etc/early; sleep 1000", testcontainers.WithFiles(early), waitFor(wait.ForLog("in time")))
		_, output := s.exec(in, nil, "stat", "-c", "%a", "/etc/early")
		same(output, "640\n")
		check(in.CopyToContainer(s, []byte("later"), "/tmp/d/late", 0o644))
		_, output = s.exec(in, nil, "cat", "/tmp/d/late")
		same(output, "later")
		back := must(in.CopyFileFromContainer(s, "/tmp/d/late"))
		defer back.Close()
		same(string(must(io.ReadAll(back))), "later")
	}},
	{"a network with aliases", func(s *session) {
		net := must(network.New(s))
		defer func() { s.clean(); check(net.Remove(s)) }()
		s.run(nginx, network.WithNetwork([]string{"web", "other"}, net))
		from := s.idle(network.WithNetwork(nil, net))
		for _, name := range []string{"web", "other"} {
			_, output := s.exec(from, nil, "sh", "-c", "for i in $(seq 50); do wget -qO- http://"+name+"/ && exit; sleep 0.1; done")
			has(output, "Welcome to nginx")
		}
	}},
	{"environment, labels, name, limits and tmpfs", func(s *session) {
		name := fmt.Sprintf("tc-go-%d", os.Getpid())
		in := s.script("echo $A; sleep 1000",
			testcontainers.WithEnv(map[string]string{"A": "of the environment"}),
			testcontainers.WithLabels(map[string]string{"a.Label": "its value"}),
			testcontainers.WithName(name),
			testcontainers.WithTmpfs(map[string]string{"/scratch": "rw,size=8m"}),
			testcontainers.WithHostConfigModifier(func(host *container.HostConfig) { host.Memory = 64 << 20 }),
			waitFor(wait.ForLog("of the environment")))
		shown := must(in.Inspect(s))
		same([]any{shown.Name, shown.Config.Labels["a.Label"], shown.HostConfig.Memory}, []any{"/" + name, "its value", int64(64 << 20)})
		_, output := s.exec(in, nil, "df", "/scratch")
		has(output, "tmpfs")
	}},
	{"a named volume keeps what is written", func(s *session) {
		volume := fmt.Sprintf("tc-go-%d", os.Getpid())
		mount := testcontainers.WithMounts(testcontainers.VolumeMount(volume, "/data"))
		s.exec(s.idle(mount), nil, "sh", "-c", "echo kept > /data/f")
		s.clean()
		_, output := s.exec(s.idle(mount), nil, "cat", "/data/f")
		same(output, "kept\n")
		s.clean()
		docker := must(client.New(client.FromEnv))
		must(docker.VolumeRemove(s, volume, client.VolumeRemoveOptions{}))
	}},
	{"a folder of the machine, by Binds, is seen from both sides, or is refused", func(s *session) {
		here := folder()
		defer os.RemoveAll(here)
		write(here, "first", "from the machine")
		in := s.bound(binds(here + ":/data"))
		if in == nil {
			return
		}
		_, output := s.exec(in, nil, "cat", "/data/first")
		same(output, "from the machine")
		s.exec(in, nil, "sh", "-c", "echo inside > /data/second")
		same(read(here, "second"), "inside\n")
		write(here, "first", "changed")
		_, output = s.exec(in, nil, "cat", "/data/first")
		same(output, "changed")
		wanted := container.MountPoint{Type: mount.TypeBind, Source: here, Destination: "/data", RW: true, Propagation: mount.PropagationRPrivate}
		same(must(in.Inspect(s)).Mounts, []container.MountPoint{wanted})
		s.clean()
		same(read(here, "second"), "inside\n")
	}},
	{"a single file, read-only, by Mounts, beside one that is copied, or it is refused", func(s *session) {
		here := folder()
		defer os.RemoveAll(here)
		write(here, "app.conf", "one")
		file := filepath.Join(here, "app.conf")
		copied := testcontainers.WithFiles(testcontainers.ContainerFile{HostFilePath: file, ContainerFilePath: "/etc/app/copied", FileMode: 0o644})
		in := s.bound(mounts(mount.Mount{Type: mount.TypeBind, Source: file, Target: "/etc/app/bound", ReadOnly: true}), copied)
		if in == nil {
			return
		}
		code, output := s.exec(in, nil, "sh", "-c", "cat /etc/app/bound /etc/app/copied; echo no > /etc/app/bound")
		same(code, 1)
		has(output, "oneone")
		has(output, "Read-only file system")
		same(read(here, "app.conf"), "one")
	}},
	{"a missing source is made for Binds, and refused for Mounts, or both are refused", func(s *session) {
		here := folder()
		defer os.RemoveAll(here)
		made, none := filepath.Join(here, "made/deep"), filepath.Join(here, "none")
		missing := mounts(mount.Mount{Type: mount.TypeBind, Source: none, Target: "/data"})
		if in := s.bound(binds(made + ":/data")); in != nil {
			s.exec(in, nil, "sh", "-c", "echo made > /data/file")
			same(read(made, "file"), "made\n")
			_, err := testcontainers.Run(s, busybox, missing)
			has(fmt.Sprint(err), "bind source path does not exist: "+none)
		} else {
			s.bound(missing)
			same(len(must(os.ReadDir(here))), 0)
		}
		same(len(must(filepath.Glob(none))), 0)
	}},
	{"logs, and a consumer of them with streams apart", func(s *session) {
		lines := make(chan testcontainers.Log, 8)
		consume := testcontainers.WithLogConsumers(consumer(lines))
		s.script("sleep 0.5; echo out; sleep 0.2; echo err >&2; sleep 1000", consume, waitFor(wait.ForLog("err")))
		one, two := <-lines, <-lines
		same([]string{one.LogType, string(one.Content), two.LogType, string(two.Content)}, []string{"STDOUT", "out\n", "STDERR", "err\n"})
	}},
	{"stop and start again", func(s *session) {
		server := s.run(nginx, serves)
		soon := time.Second
		check(server.Stop(s, &soon))
		same(must(server.State(s)).Running, false)
		check(server.Start(s))
		has(s.get(server, "/"), "Welcome to nginx")
	}},
	{"reuse by name finds the running container", func(s *session) {
		reuse := testcontainers.WithReuseByName(fmt.Sprintf("tc-go-reuse-%d", os.Getpid()))
		same(s.idle(reuse).GetContainerID(), s.idle(reuse).GetContainerID())
	}},
	{"what cannot start says why", func(s *session) {
		made, err := testcontainers.Run(s, busybox, testcontainers.WithCmd("nosuchprogram"))
		has(fmt.Sprint(err), "nosuchprogram")
		check(testcontainers.TerminateContainer(made))
		_, err = testcontainers.Run(s, registry()+"/no/such:1")
		has(fmt.Sprint(err), "no/such")
	}},
	{"ten containers at a time", func(s *session) {
		var all sync.WaitGroup
		failed := make(chan string, 10)
		for range 10 {
			all.Go(func() {
				defer func() {
					if caught := recover(); caught != nil {
						failed <- fmt.Sprint(caught)
					}
				}()
				listens := waitFor(wait.ForListeningPort("80/tcp"))
				has(s.get(s.run(nginx, serves, listens), "/"), "Welcome to nginx")
			})
		}
		all.Wait()
		close(failed)
		for why := range failed {
			panic(why)
		}
	}},
	{"the reaper removes what a session that died has left", func(s *session) {
		session := exec.Command("/proc/self/exe", "session")
		// A session is named after the process that began it: this one is another one.
		session.Env = append(os.Environ(), "TESTCONTAINERS_SESSION_ID="+fmt.Sprintf("%064x", time.Now().UnixNano()))
		var errors bytes.Buffer
		session.Stderr = &errors
		output, err := session.Output()
		if err != nil {
			panic(fmt.Sprintf("%v: %.300s", err, errors.String()))
		}
		left := strings.Fields(string(output))
		docker := must(client.New(client.FromEnv))
		there := func() bool {
			_, container := docker.ContainerInspect(s, left[0], client.ContainerInspectOptions{})
			_, net := docker.NetworkInspect(s, left[1], client.NetworkInspectOptions{})
			return container == nil || net == nil
		}
		same(there(), true)
		for end := time.Now().Add(40 * time.Second); there(); time.Sleep(time.Second / 2) {
			if time.Now().After(end) {
				panic("still there")
			}
		}
	}},
}

type consumer chan testcontainers.Log

// Accept keeps a copy: the bytes are used again after it.
func (c consumer) Accept(line testcontainers.Log) {
	line.Content = bytes.Clone(line.Content)
	c <- line
}

func (s *session) clean() {
	for _, one := range s.started {
		if err := testcontainers.TerminateContainer(one, testcontainers.StopTimeout(time.Second)); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	s.started = nil
}

func attempt(one behaviour) (why string) {
	ctx, done := context.WithTimeout(context.Background(), 90*time.Second)
	defer done()
	s := &session{Context: ctx}
	defer s.clean()
	defer func() {
		if caught := recover(); caught != nil {
			why = strings.Join(strings.Fields(fmt.Sprint(caught)), " ")
		}
	}()
	one.body(s)
	return ""
}

// leave starts what the reaper has to remove, and ends without a word.
func leave() {
	ctx := context.Background()
	net := must(network.New(ctx))
	made := must(testcontainers.Run(ctx, busybox, testcontainers.WithCmd("sleep", "1000"), network.WithNetwork(nil, net)))
	fmt.Println(made.GetContainerID(), net.ID)
	os.Exit(0)
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/testcontainers/testcontainers-go" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "unknown"
}

func main() {
	tclog.SetDefault(log.New(io.Discard, "", 0))
	if len(os.Args) > 1 && os.Args[1] == "session" {
		leave()
	}
	fmt.Printf("# testcontainers-go %s\n", version())
	failed := 0
	for _, one := range behaviours {
		if len(os.Args) > 1 && !strings.Contains(one.name, strings.TrimPrefix(os.Args[1], "only=")) {
			continue
		}
		if why := attempt(one); why != "" {
			failed++
			fmt.Printf("not ok - %s: %.400s\n", one.name, why)
		} else {
			fmt.Printf("ok - %s\n", one.name)
		}
	}
	if failed > 0 {
		os.Exit(1)
	}
}
