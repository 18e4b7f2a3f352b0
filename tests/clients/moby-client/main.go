// What users of Docker's own client for Go do, each asserted against what a Docker engine answers.
package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"runtime/debug"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

var (
	docker *client.Client
	run    = fmt.Sprintf("%x", time.Now().UnixNano()&0xffffffff)
	labels = map[string]string{"d2k.clients": run}
)

func named(name string) string { return name + "-" + run }

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

func refused(err error, is func(error) bool, word string) {
	if err == nil {
		panic("not refused: " + word)
	}
	if !is(err) {
		panic(fmt.Sprintf("another kind of error: %v", err))
	}
	has(err.Error(), word)
}

func until(what string, holds func() bool) {
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if holds() {
			return
		}
	}
	panic("not within 20 s: " + what)
}

func create(ctx context.Context, config container.Config, host container.HostConfig, name string) string {
	if config.Image == "" {
		config.Image = "busybox"
	}
	if config.Labels == nil {
		config.Labels = labels
	}
	return must(docker.ContainerCreate(ctx, client.ContainerCreateOptions{Config: &config, HostConfig: &host, Name: name})).ID
}

func start(ctx context.Context, id string) string {
	must(docker.ContainerStart(ctx, id, client.ContainerStartOptions{}))
	return id
}

func idle(ctx context.Context) string {
	return start(ctx, create(ctx, container.Config{Cmd: []string{"sleep", "1000"}}, container.HostConfig{}, ""))
}

func script(ctx context.Context, text string) string {
	return start(ctx, create(ctx, container.Config{Cmd: []string{"sh", "-c", text}}, container.HostConfig{}, ""))
}

func wait(ctx context.Context, id string, condition container.WaitCondition) int64 {
	waiting := docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: condition})
	select {
	case ended := <-waiting.Result:
		return ended.StatusCode
	case err := <-waiting.Error:
		panic(err)
	}
}

func apart(source io.Reader) [2]string {
	var out, err bytes.Buffer
	must(stdcopy.StdCopy(&out, &err, source))
	return [2]string{out.String(), err.String()}
}

func exec(ctx context.Context, id string, options client.ExecCreateOptions, input string) ([2]string, int) {
	options.AttachStdout, options.AttachStderr, options.AttachStdin = true, true, input != ""
	made := must(docker.ExecCreate(ctx, id, options))
	attached := must(docker.ExecAttach(ctx, made.ID, client.ExecAttachOptions{}))
	defer attached.Close()
	if input != "" {
		must(io.WriteString(attached.Conn, input))
	}
	check(attached.CloseWrite())
	streams := apart(attached.Reader)
	shown := must(docker.ExecInspect(ctx, made.ID, client.ExecInspectOptions{}))
	same(shown.Running, false)
	return streams, shown.ExitCode
}

// sized is what a command writes to a terminal of 31 rows and 97 columns.
func sized(ctx context.Context, id string, command ...string) string {
	size := client.ConsoleSize{Height: 31, Width: 97}
	options := client.ExecCreateOptions{Cmd: command, TTY: true, AttachStdin: true, AttachStdout: true, ConsoleSize: size}
	made := must(docker.ExecCreate(ctx, id, options))
	attached := must(docker.ExecAttach(ctx, made.ID, client.ExecAttachOptions{TTY: true, ConsoleSize: size}))
	defer attached.Close()
	return string(must(io.ReadAll(attached.Reader)))
}

func logs(ctx context.Context, id string, options client.ContainerLogsOptions) [2]string {
	log := must(docker.ContainerLogs(ctx, id, options))
	defer log.Close()
	return apart(log)
}

func archive(name, content string) io.Reader {
	var made bytes.Buffer
	writer := tar.NewWriter(&made)
	check(writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}))
	must(writer.Write([]byte(content)))
	check(writer.Close())
	return &made
}

func names(archive io.Reader) map[string]string {
	found := map[string]string{}
	for reader := tar.NewReader(archive); ; {
		entry, err := reader.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		check(err)
		found[entry.Name] = string(must(io.ReadAll(reader)))
	}
}

var both = client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true}

type behaviour struct {
	name string
	body func(ctx context.Context)
}

var behaviours = []behaviour{
	{"ping, negotiation, version and info", func(ctx context.Context) {
		ping := must(docker.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true}))
		same(ping.OSType, "linux")
		same(must(docker.ServerVersion(ctx, client.ServerVersionOptions{})).Os, "linux")
		info := must(docker.Info(ctx, client.InfoOptions{})).Info
		if info.NCPU == 0 || info.MemTotal == 0 {
			panic("no processors or memory")
		}
		must(docker.DiskUsage(ctx, client.DiskUsageOptions{Containers: true, Images: true, Volumes: true}))
	}},
	{"swarm is refused with Docker's words", func(ctx context.Context) {
		_, err := docker.ServiceList(ctx, client.ServiceListOptions{})
		refused(err, errdefs.IsUnavailable, "This node is not a swarm manager")
		_, err = docker.NodeList(ctx, client.NodeListOptions{})
		refused(err, errdefs.IsUnavailable, "This node is not a swarm manager")
	}},
	{"attach before the start, input and its end, streams apart", func(ctx context.Context) {
		config := container.Config{
			Cmd: []string{"sh", "-c", "cat; echo err >&2; exit 3"}, OpenStdin: true, StdinOnce: true,
			AttachStdin: true, AttachStdout: true, AttachStderr: true,
		}
		id := create(ctx, config, container.HostConfig{}, "")
		attached := must(docker.ContainerAttach(ctx, id, client.ContainerAttachOptions{Stream: true, Stdin: true, Stdout: true, Stderr: true}))
		defer attached.Close()
		waiting := docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
		start(ctx, id)
		must(io.WriteString(attached.Conn, "through\n"))
		check(attached.CloseWrite())
		same(apart(attached.Reader), [2]string{"through\n", "err\n"})
		same((<-waiting.Result).StatusCode, int64(3))
	}},
	{"exec with output, exit code, user, environment, directory and input", func(ctx context.Context) {
		id := idle(ctx)
		options := client.ExecCreateOptions{
			Cmd: []string{"sh", "-c", "echo $A $(pwd) $(id -u); echo err >&2; exit 3"},
			Env: []string{"A=x"}, WorkingDir: "/tmp", User: "1000",
		}
		streams, code := exec(ctx, id, options, "")
		same(streams, [2]string{"x /tmp 1000\n", "err\n"})
		same(code, 3)
		streams, _ = exec(ctx, id, client.ExecCreateOptions{Cmd: []string{"wc", "-c"}}, "12345")
		same(streams, [2]string{"5\n", ""})
	}},
	{"exec with a terminal of a size, and detached", func(ctx context.Context) {
		id := idle(ctx)
		has(sized(ctx, id, "sh", "-c", "sleep 1; stty size"), "31 97\r\n")
		made := must(docker.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: []string{"touch", "/tmp/made"}}))
		must(docker.ExecStart(ctx, made.ID, client.ExecStartOptions{Detach: true}))
		until("the file is there", func() bool {
			_, code := exec(ctx, id, client.ExecCreateOptions{Cmd: []string{"test", "-e", "/tmp/made"}}, "")
			return code == 0
		})
	}},
	{"logs whole, by tail, by time, with timestamps, and followed", func(ctx context.Context) {
		id := script(ctx, "echo 1; echo 2; sleep 2.2; echo 3")
		followed := both
		followed.Follow = true
		same(logs(ctx, id, followed), [2]string{"1\n2\n3\n", ""})
		tail := both
		tail.Tail = "1"
		same(logs(ctx, id, tail)[0], "3\n")
		tail.Timestamps = true
		stamp, _, _ := strings.Cut(logs(ctx, id, tail)[0], " ")
		last := must(time.Parse(time.RFC3339Nano, stamp))
		since := both
		since.Since = last.Add(-time.Second).Format(time.RFC3339Nano)
		same(logs(ctx, id, since)[0], "3\n")
		until := both
		until.Until = since.Since
		same(logs(ctx, id, until)[0], "1\n2\n")
	}},
	{"logs tell standard output and error apart", func(ctx context.Context) {
		id := script(ctx, "echo out; echo err >&2")
		wait(ctx, id, container.WaitConditionNotRunning)
		same(logs(ctx, id, both), [2]string{"out\n", "err\n"})
	}},
	{"archives both ways, and before the start", func(ctx context.Context) {
		config := container.Config{Cmd: []string{"sh", "-c", "cat /etc/early; echo; sleep 1000"}}
		id := create(ctx, config, container.HostConfig{}, "")
		must(docker.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/etc", Content: archive("early", "in time")}))
		start(ctx, id)
		until("it is logged", func() bool { return logs(ctx, id, both)[0] == "in time\n" })
		must(docker.CopyToContainer(ctx, id, client.CopyToContainerOptions{DestinationPath: "/tmp", Content: archive("late", "later")}))
		copied := must(docker.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/tmp/late"}))
		same(names(copied.Content), map[string]string{"late": "later"})
		same(copied.Stat.Size, int64(5))
		stat := must(docker.ContainerStatPath(ctx, id, client.ContainerStatPathOptions{Path: "/tmp"})).Stat
		same(stat.Mode.IsDir(), true)
		_, err := docker.CopyFromContainer(ctx, id, client.CopyFromContainerOptions{SourcePath: "/nosuch"})
		refused(err, errdefs.IsNotFound, "Could not find the file /nosuch")
	}},
	{"the export of a file system", func(ctx context.Context) {
		exported := must(docker.ContainerExport(ctx, idle(ctx), client.ContainerExportOptions{}))
		defer exported.Close()
		if _, there := names(exported)["etc/passwd"]; !there {
			panic("no etc/passwd")
		}
	}},
	{"stop, start, restart, kill, rename, update", func(ctx context.Context) {
		id := create(ctx, container.Config{Cmd: []string{"sleep", "1000"}}, container.HostConfig{}, named("life"))
		start(ctx, id)
		soon := 1
		must(docker.ContainerRestart(ctx, id, client.ContainerRestartOptions{Timeout: &soon}))
		must(docker.ContainerRename(ctx, id, client.ContainerRenameOptions{NewName: named("renamed")}))
		resources := container.Resources{Memory: 96 << 20, MemorySwap: 192 << 20}
		must(docker.ContainerUpdate(ctx, id, client.ContainerUpdateOptions{Resources: &resources}))
		shown := must(docker.ContainerInspect(ctx, named("renamed"), client.ContainerInspectOptions{})).Container
		same([]any{shown.ID, shown.HostConfig.Memory, shown.State.Running}, []any{id, int64(96 << 20), true})
		must(docker.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &soon}))
		must(docker.ContainerStop(ctx, id, client.ContainerStopOptions{Timeout: &soon}))
		_, err := docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"})
		refused(err, errdefs.IsConflict, "is not running")
		start(ctx, id)
		_, err = docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{})
		refused(err, errdefs.IsConflict, "container is running")
		must(docker.ContainerKill(ctx, id, client.ContainerKillOptions{Signal: "KILL"}))
		same(wait(ctx, id, container.WaitConditionNotRunning), int64(137))
	}},
	{"pause and unpause", func(ctx context.Context) {
		init := true
		id := start(ctx, create(ctx, container.Config{Cmd: []string{"sleep", "1000"}}, container.HostConfig{Init: &init}, ""))
		must(docker.ContainerPause(ctx, id, client.ContainerPauseOptions{}))
		state := func() container.ContainerState {
			return must(docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})).Container.State.Status
		}
		same(state(), container.StatePaused)
		must(docker.ContainerUnpause(ctx, id, client.ContainerUnpauseOptions{}))
		same(state(), container.StateRunning)
	}},
	{"wait for the removal of what removes itself", func(ctx context.Context) {
		config := container.Config{Cmd: []string{"sh", "-c", "sleep 1; exit 6"}}
		id := create(ctx, config, container.HostConfig{AutoRemove: true}, "")
		waiting := docker.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
		start(ctx, id)
		same((<-waiting.Result).StatusCode, int64(6))
		_, err := docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
		refused(err, errdefs.IsNotFound, "No such container")
	}},
	{"top, changes and stats", func(ctx context.Context) {
		id := idle(ctx)
		top := must(docker.ContainerTop(ctx, id, client.ContainerTopOptions{}))
		has(fmt.Sprint(top.Processes), "sleep 1000")
		must(docker.ContainerDiff(ctx, id, client.ContainerDiffOptions{}))
		once := must(docker.ContainerStats(ctx, id, client.ContainerStatsOptions{IncludePreviousSample: true}))
		defer once.Body.Close()
		var sample container.StatsResponse
		check(json.NewDecoder(once.Body).Decode(&sample))
		if sample.CPUStats.SystemUsage == 0 || sample.PreCPUStats.SystemUsage == 0 {
			panic(fmt.Sprintf("%+v", sample))
		}
		stream := must(docker.ContainerStats(ctx, id, client.ContainerStatsOptions{Stream: true}))
		defer stream.Body.Close()
		decoder := json.NewDecoder(stream.Body)
		check(decoder.Decode(&sample))
		first := sample.Read
		check(decoder.Decode(&sample))
		same(sample.Read.After(first), true)
	}},
	{"commit, build and push are refused with what to do instead", func(ctx context.Context) {
		_, err := docker.ContainerCommit(ctx, idle(ctx), client.ContainerCommitOptions{Reference: "some/thing"})
		refused(err, errdefs.IsNotImplemented, "commit")
		_, err = docker.ImageBuild(ctx, archive("Dockerfile", "FROM busybox"), client.ImageBuildOptions{})
		refused(err, errdefs.IsNotImplemented, "build")
	}},
	{"containers by filters", func(ctx context.Context) {
		id := idle(ctx)
		list := func(filters client.Filters) []container.Summary {
			return must(docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: filters})).Items
		}
		same(len(list(make(client.Filters).Add("label", "d2k.clients="+run).Add("status", "running"))), 1)
		same(list(make(client.Filters).Add("id", id))[0].State, container.StateRunning)
		_, err := docker.ContainerList(ctx, client.ContainerListOptions{Filters: make(client.Filters).Add("nonsense", "x")})
		refused(err, errdefs.IsInvalidArgument, "invalid filter 'nonsense'")
	}},
	{"ports that answer at once", func(ctx context.Context) {
		port := network.MustParsePort("80/tcp")
		host := container.HostConfig{PortBindings: network.PortMap{port: {{HostPort: "0"}}}}
		id := start(ctx, create(ctx, container.Config{Image: "nginx", ExposedPorts: network.PortSet{port: {}}}, host, ""))
		shown := must(docker.ContainerInspect(ctx, id, client.ContainerInspectOptions{})).Container
		address := must(url.Parse(os.Getenv("DOCKER_HOST"))).Hostname()
		page := must(http.Get(fmt.Sprintf("http://%s:%s/", address, shown.NetworkSettings.Ports[port][0].HostPort)))
		defer page.Body.Close()
		has(string(must(io.ReadAll(page.Body))), "Welcome to nginx")
	}},
	{"events by filter, live and from the past", func(ctx context.Context) {
		since := time.Now().Add(-time.Second)
		listening, stop := context.WithCancel(ctx)
		defer stop()
		live := docker.Events(listening, client.EventsListOptions{Filters: make(client.Filters).Add("label", "events="+run)})
		time.Sleep(300 * time.Millisecond)
		config := container.Config{Cmd: []string{"true"}, Labels: map[string]string{"d2k.clients": run, "events": run}}
		id := start(ctx, create(ctx, config, container.HostConfig{}, ""))
		wait(ctx, id, container.WaitConditionNotRunning)
		next := func(from client.EventsResult) string {
			select {
			case event := <-from.Messages:
				return string(event.Action)
			case err := <-from.Err:
				return fmt.Sprint(err)
			case <-time.After(20 * time.Second):
				return "nothing"
			}
		}
		same([]string{next(live), next(live), next(live)}, []string{"create", "start", "die"})
		must(docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{}))
		same(next(live), "destroy")
		past := docker.Events(ctx, client.EventsListOptions{
			Since: fmt.Sprint(since.Unix()), Until: fmt.Sprint(time.Now().Unix() + 1), Filters: make(client.Filters).Add("container", id),
		})
		same([]string{next(past), next(past), next(past), next(past), next(past)}, []string{"create", "start", "die", "destroy", "EOF"})
	}},
	{"images pulled with progress, listed, inspected, tagged, removed", func(ctx context.Context) {
		pulled := must(docker.ImagePull(ctx, "busybox:latest", client.ImagePullOptions{}))
		check(pulled.Wait(ctx))
		id := must(docker.ImageInspect(ctx, "busybox")).ID
		if len(must(docker.ImageHistory(ctx, "busybox")).Items) == 0 {
			panic("no history")
		}
		must(docker.ImageTag(ctx, client.ImageTagOptions{Source: "busybox", Target: named("tagged") + ":1"}))
		same(must(docker.ImageInspect(ctx, named("tagged")+":1")).ID, id)
		must(docker.ImageRemove(ctx, named("tagged")+":1", client.ImageRemoveOptions{}))
		_, err := docker.ImageInspect(ctx, named("tagged")+":1")
		refused(err, errdefs.IsNotFound, "No such image")
		_, err = docker.ImagePull(ctx, "no/such-"+run, client.ImagePullOptions{})
		refused(err, errdefs.IsNotFound, "no/such-"+run)
		if len(must(docker.ImageList(ctx, client.ImageListOptions{Filters: make(client.Filters).Add("reference", "busybox")})).Items) == 0 {
			panic("not listed")
		}
		must(docker.DistributionInspect(ctx, "busybox:latest", client.DistributionInspectOptions{}))
	}},
	{"volumes made, listed, used, pruned", func(ctx context.Context) {
		must(docker.VolumeCreate(ctx, client.VolumeCreateOptions{Name: named("data"), Labels: labels}))
		config := container.Config{Cmd: []string{"sh", "-c", "echo kept > /data/f && cat /data/f"}}
		id := start(ctx, create(ctx, config, container.HostConfig{Binds: []string{named("data") + ":/data"}}, ""))
		same(wait(ctx, id, container.WaitConditionNotRunning), int64(0))
		_, err := docker.VolumeRemove(ctx, named("data"), client.VolumeRemoveOptions{})
		refused(err, errdefs.IsConflict, "volume is in use")
		must(docker.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true}))
		mine := make(client.Filters).Add("label", "d2k.clients="+run)
		same(must(docker.VolumeList(ctx, client.VolumeListOptions{Filters: mine})).Items[0].Name, named("data"))
		pruned := must(docker.VolumePrune(ctx, client.VolumePruneOptions{All: true, Filters: mine}))
		same(pruned.Report.VolumesDeleted, []string{named("data")})
	}},
	{"networks made, joined, left, removed", func(ctx context.Context) {
		net := must(docker.NetworkCreate(ctx, named("net"), client.NetworkCreateOptions{Labels: labels})).ID
		id := idle(ctx)
		endpoint := network.EndpointSettings{Aliases: []string{"friend"}}
		must(docker.NetworkConnect(ctx, net, client.NetworkConnectOptions{Container: id, EndpointConfig: &endpoint}))
		shown := must(docker.NetworkInspect(ctx, net, client.NetworkInspectOptions{})).Network
		if _, there := shown.Containers[id]; !there {
			panic(fmt.Sprintf("%v", shown.Containers))
		}
		_, err := docker.NetworkRemove(ctx, net, client.NetworkRemoveOptions{})
		refused(err, errdefs.IsPermissionDenied, "active endpoints")
		must(docker.NetworkDisconnect(ctx, net, client.NetworkDisconnectOptions{Container: id}))
		must(docker.NetworkRemove(ctx, net, client.NetworkRemoveOptions{}))
		_, err = docker.NetworkInspect(ctx, net, client.NetworkInspectOptions{})
		refused(err, errdefs.IsNotFound, "not found")
		for _, one := range must(docker.NetworkList(ctx, client.NetworkListOptions{})).Items {
			if one.Name == "bridge" {
				return
			}
		}
		panic("no network bridge")
	}},
	{"a login", func(ctx context.Context) {
		registry := os.Getenv("D2K_CLIENTS_REGISTRY")
		if registry == "" {
			registry = "127.0.0.1:5000"
		}
		answer := must(docker.RegistryLogin(ctx, client.RegistryLoginOptions{Username: "someone", Password: "secret", ServerAddress: registry}))
		same(answer.Auth.Status, "Login Succeeded")
	}},
	{"prune by label", func(ctx context.Context) {
		config := container.Config{Cmd: []string{"true"}, Labels: map[string]string{"d2k.clients": run, "prune": run}}
		id := start(ctx, create(ctx, config, container.HostConfig{}, ""))
		wait(ctx, id, container.WaitConditionNotRunning)
		pruned := must(docker.ContainerPrune(ctx, client.ContainerPruneOptions{Filters: make(client.Filters).Add("label", "prune="+run)}))
		same(pruned.Report.ContainersDeleted, []string{id})
	}},
}

func attempt(one behaviour) (why string) {
	ctx, done := context.WithTimeout(context.Background(), 90*time.Second)
	defer done()
	defer func() {
		if caught := recover(); caught != nil {
			why = strings.Join(strings.Fields(fmt.Sprint(caught)), " ")
			if os.Getenv("D2K_CLIENTS_TRACE") != "" {
				debug.PrintStack()
			}
		}
	}()
	one.body(ctx)
	return ""
}

func clean() {
	ctx := context.Background()
	mine := make(client.Filters).Add("label", "d2k.clients="+run)
	list, _ := docker.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: mine})
	for _, one := range list.Items {
		docker.ContainerRemove(ctx, one.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	}
}

func version() string {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/moby/moby/client" {
			return strings.TrimPrefix(module.Version, "v")
		}
	}
	return "unknown"
}

func main() {
	out := bufio.NewWriterSize(os.Stdout, 1)
	docker = must(client.New(client.FromEnv))
	fmt.Fprintf(out, "# moby-client %s\n", version())
	for _, image := range []string{"busybox:latest", "nginx:latest"} {
		check(must(docker.ImagePull(context.Background(), image, client.ImagePullOptions{})).Wait(context.Background()))
	}
	failed := 0
	for _, one := range behaviours {
		if len(os.Args) > 1 && !strings.Contains(one.name, strings.TrimPrefix(os.Args[1], "only=")) {
			continue
		}
		if why := attempt(one); why != "" {
			failed++
			fmt.Fprintf(out, "not ok - %s: %.400s\n", one.name, why)
		} else {
			fmt.Fprintf(out, "ok - %s\n", one.name)
		}
		out.Flush()
		clean()
	}
	if failed > 0 {
		os.Exit(1)
	}
}
