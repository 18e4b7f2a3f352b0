// Does to DOCKER_HOST what Portainer's server does for its pages: the snapshot, the details of a container, the console
// (hijacked with Go's old ClientConn, whose buffered reader is thrown away), attach, the create form, and recreate.
// The server itself is not to be had as a Go module; the requests are the same, its code is not in here.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
	"github.com/gorilla/websocket"
)

var (
	ctx     = context.Background()
	engine  *client.Client
	address string
	suffix  = fmt.Sprintf("-%d", time.Now().UnixNano()%1_000_000)
	failed  bool
)

type object = map[string]any

func check(holds bool, format string, arguments ...any) {
	if !holds {
		panic(fmt.Sprintf(format, arguments...))
	}
}

func must[T any](value T, err error) T {
	check(err == nil, "%v", err)
	return value
}

func behaviour(name string, act func()) {
	defer func() {
		if why := recover(); why != nil {
			failed = true
			fmt.Printf("not ok - %s: %v\n", name, strings.Join(strings.Fields(fmt.Sprint(why)), " "))
			return
		}
		fmt.Printf("ok - %s\n", name)
	}()
	act()
}

// An unversioned request, as the browser's are passed on.
func pass(method, path string, body any) (int, []byte) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(must(json.Marshal(body)))
	}
	request := must(http.NewRequest(method, "http://"+address+path, reader))
	request.Header.Set("Content-Type", "application/json")
	answer := must(http.DefaultClient.Do(request))
	defer answer.Body.Close()
	return answer.StatusCode, must(io.ReadAll(answer.Body))
}

func passed(method, path string, body any, into any) {
	status, text := pass(method, path, body)
	check(status < 300, "%s %s: %d %s", method, path, status, text)
	if into != nil {
		check(json.Unmarshal(text, into) == nil, "%s %s: %s", method, path, text)
	}
}

// The body that the form for a new container makes.
func form(name string) object {
	return object{
		"Image": "nginx:latest", "Env": []string{"SHADE=dark"}, "MacAddress": "", "Entrypoint": nil, "Cmd": nil,
		"ExposedPorts": object{"80/tcp": object{}}, "Labels": object{"team": "a"}, "OpenStdin": false, "Tty": false,
		"Hostname": "", "Domainname": "", "User": "", "WorkingDir": "", "name": name,
		"Volumes":          object{"/data": object{}},
		"NetworkingConfig": object{"EndpointsConfig": object{"bridge": object{"IPAMConfig": object{"IPv4Address": "", "IPv6Address": ""}}}},
		"HostConfig": object{
			"RestartPolicy": object{"Name": "unless-stopped"}, "PortBindings": object{"80/tcp": []object{{"HostPort": ""}}},
			"PublishAllPorts": false, "Binds": []string{"data" + suffix + ":/data"}, "AutoRemove": false, "NetworkMode": "bridge",
			"Privileged": false, "Init": false, "Runtime": nil, "ExtraHosts": []string{}, "Dns": []string{}, "Devices": []object{},
			"DeviceRequests": []object{}, "CapAdd": []string{"AUDIT_WRITE", "CHOWN", "NET_BIND_SERVICE", "SETGID", "SETUID"},
			"CapDrop": []string{"SYS_ADMIN", "SYS_TIME"}, "Sysctls": object{}, "SecurityOpt": nil,
			"LogConfig": object{"Type": "", "Config": object{}}, "ShmSize": 64 << 20, "Memory": 0, "MemoryReservation": 0, "NanoCpus": 0,
		},
	}
}

func snapshot() {
	must(engine.Ping(ctx))
	info := must(engine.Info(ctx))
	check(!info.Swarm.ControlAvailable && info.ServerVersion != "" && info.NCPU > 0 && info.MemTotal > 0, "info: %+v", info)
	running, stacks, mine := 0, map[string]bool{}, false
	for _, one := range must(engine.ContainerList(ctx, container.ListOptions{All: true})) {
		mine = mine || one.Names[0] == "/web"+suffix
		if project, ok := one.Labels["com.docker.compose.project"]; ok {
			stacks[project] = true
		}
		if one.State != "running" {
			continue
		}
		running++
		details := must(engine.ContainerInspect(ctx, one.ID))
		for _, request := range details.HostConfig.DeviceRequests {
			check(len(request.Capabilities) > 0, "a device request without capabilities")
		}
	}
	check(mine && running > 0, "web%s is not in the list", suffix)
	check(info.ContainersRunning >= 1, "info counts %d running containers", info.ContainersRunning)
	check(len(must(engine.ImageList(ctx, image.ListOptions{}))) > 0, "no images")
	check(must(engine.VolumeList(ctx, volume.ListOptions{})).Volumes != nil, "no volumes")
	check(len(must(engine.NetworkList(ctx, network.ListOptions{}))) >= 3, "no networks")
	check(must(engine.ServerVersion(ctx)).APIVersion != "", "no version")
}

func details() {
	id := "web" + suffix
	var seen object
	passed("GET", "/containers/"+id+"/json", nil, &seen)
	check(seen["State"].(object)["Status"] == "running", "%v", seen["State"])
	ports := seen["NetworkSettings"].(object)["Ports"].(object)["80/tcp"].([]any)
	check(ports[0].(object)["HostPort"] != "", "no host port: %v", ports)
	var top struct{ Titles, Processes any }
	passed("GET", "/containers/"+id+"/top", nil, &top)
	check(top.Titles != nil && top.Processes != nil, "%v", top)
	status, _ := pass("GET", "/containers/"+id+"/logs?stdout=1&stderr=1&timestamps=0&since=0&tail=100", nil)
	check(status == 200, "logs: %d", status)
	var image object
	passed("GET", "/images/"+seen["Image"].(string)+"/json", nil, &image)
	check(image["RepoTags"] != nil, "%v", image)
	var list []any
	passed("GET", "/images/"+seen["Image"].(string)+"/history", nil, &list)
	filters := url.QueryEscape(fmt.Sprintf(`{"id":["%s"]}`, seen["Id"]))
	passed("GET", "/containers/json?all=1&filters="+filters, nil, &list)
	check(len(list) == 1, "%d containers of one ID", len(list))
}

func stats() {
	for range 2 {
		var seen struct {
			Read     string
			Networks map[string]object
			CPU      object `json:"cpu_stats"`
			Before   object `json:"precpu_stats"`
			Memory   object `json:"memory_stats"`
			BlkIO    object `json:"blkio_stats"`
		}
		passed("GET", "/containers/web"+suffix+"/stats?stream=false", nil, &seen)
		for _, side := range []object{seen.CPU, seen.Before} {
			check(side["system_cpu_usage"] != nil && side["cpu_usage"].(object)["total_usage"] != nil, "%v", side)
		}
		check(seen.Memory["usage"] != nil && seen.Memory["stats"] != nil && len(seen.Networks) > 0, "%+v", seen)
	}
}

// Hijacks a connection as the websocket handlers do: no Host, no version, and the reader of the reply is thrown away.
func hijack(path string, body any) net.Conn {
	connection := must(net.Dial("tcp", address))
	old := httputil.NewClientConn(connection, nil) //nolint:staticcheck
	request := must(http.NewRequest("POST", path, bytes.NewReader(must(json.Marshal(body)))))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Connection", "Upgrade")
	request.Header.Set("Upgrade", "tcp")
	answer, err := old.Do(request)
	check(err == nil || err == httputil.ErrPersistEOF, "%v", err)
	check(answer.StatusCode == 101, "%s: %d", path, answer.StatusCode)
	hijacked, buffered := old.Hijack()
	check(buffered == nil || buffered.Buffered() == 0, "bytes came with the reply and would be lost")
	must(0, hijacked.SetDeadline(time.Now().Add(20*time.Second)))
	return hijacked
}

func read(from io.Reader, word string) string {
	seen, buffer := "", make([]byte, 4096)
	for !strings.Contains(seen, word) {
		count, err := from.Read(buffer)
		seen += string(buffer[:count])
		check(err == nil || strings.Contains(seen, word), "%q did not come, but %q: %v", word, seen, err)
	}
	return seen
}

func execOf(name string, command ...string) string {
	var made struct{ ID string }
	wanted := object{"AttachStdin": true, "AttachStdout": true, "AttachStderr": true, "Tty": true, "Cmd": command, "id": name}
	passed("POST", "/containers/"+name+"/exec", wanted, &made)
	return made.ID
}

func console() {
	for range 5 {
		id := execOf("web"+suffix, "sh", "-c", "echo first; cat")
		stream := hijack("/exec/"+id+"/start", object{"Tty": true, "Detach": false})
		passed("POST", "/exec/"+id+"/resize?h=40&w=120", nil, nil)
		seen := read(stream, "first")
		check(strings.HasPrefix(seen, "first"), "it begins with %q", seen)
		must(stream.Write([]byte("typed\r")))
		read(stream, "typed")
		must(stream.Write([]byte{4}))
		must(io.ReadAll(stream))
		var ended struct {
			Running  bool
			ExitCode *int
		}
		passed("GET", "/exec/"+id+"/json", nil, &ended)
		check(!ended.Running && ended.ExitCode != nil, "%+v", ended)
		must(0, stream.Close())
	}
}

func attach() {
	name := "shell" + suffix
	body := object{"Image": "busybox", "Cmd": []string{"sh"}, "Tty": true, "OpenStdin": true}
	passed("POST", "/containers/create?name="+name, body, nil)
	passed("POST", "/containers/"+name+"/start", nil, nil)
	stream := hijack("/containers/"+name+"/attach?stdin=1&stdout=1&stderr=1&stream=1", object{})
	passed("POST", "/containers/"+name+"/resize?h=40&w=120", nil, nil)
	must(stream.Write([]byte("echo $((6*7))\r")))
	read(stream, "42")
	must(0, stream.Close())
	socket, _, err := websocket.DefaultDialer.Dial("ws://"+address+"/containers/"+name+"/attach/ws?stdin=1&stdout=1&stderr=1&stream=1", nil)
	check(err == nil, "%v", err)
	must(0, socket.WriteMessage(websocket.BinaryMessage, []byte("echo $((7*8))\r")))
	must(0, socket.SetReadDeadline(time.Now().Add(20*time.Second)))
	seen := ""
	for !strings.Contains(seen, "56") {
		_, part, err := socket.ReadMessage()
		check(err == nil, "%q: %v", seen, err)
		seen += string(part)
	}
	must(0, socket.Close())
	passed("DELETE", "/containers/"+name+"?force=true&v=1", nil, nil)
}

// The order of the steps is Portainer's: the old container goes last, so that it can be brought back.
func recreate() {
	name := "web" + suffix
	must(engine.NetworkCreate(ctx, "net"+suffix, network.CreateOptions{}))
	must(0, engine.NetworkConnect(ctx, "net"+suffix, name, &network.EndpointSettings{Aliases: []string{"front"}}))
	old := must(engine.ContainerInspect(ctx, name))
	must(0, engine.ContainerStop(ctx, old.ID, container.StopOptions{}))
	must(0, engine.ContainerRename(ctx, old.ID, old.Name+"-old"))
	first := network.NetworkingConfig{EndpointsConfig: map[string]*network.EndpointSettings{}}
	for key, joined := range old.NetworkSettings.Networks {
		must(0, engine.NetworkDisconnect(ctx, joined.NetworkID, old.ID, true))
		if len(first.EndpointsConfig) == 0 {
			first.EndpointsConfig[key] = joined
		}
	}
	made := must(engine.ContainerCreate(ctx, old.Config, old.HostConfig, &first, nil, old.Name))
	for key, joined := range old.NetworkSettings.Networks {
		if _, there := first.EndpointsConfig[key]; !there {
			must(0, engine.NetworkConnect(ctx, joined.NetworkID, made.ID, joined))
		}
	}
	must(0, engine.ContainerStart(ctx, made.ID, container.StartOptions{}))
	must(0, engine.ContainerRemove(ctx, old.ID, container.RemoveOptions{}))
	now := must(engine.ContainerInspect(ctx, made.ID))
	check(now.Name == old.Name && now.State.Running && now.Config.Labels["team"] == "a", "%+v", now.State)
	check(len(now.NetworkSettings.Networks) == 2, "%d networks", len(now.NetworkSettings.Networks))
	check(now.HostConfig.RestartPolicy.Name == "unless-stopped" && len(now.Mounts) == 1, "%+v", now.Mounts)
}

func lifecycle() {
	name := "web" + suffix
	for _, step := range [][2]string{{"stop", "exited"}, {"start", "running"}, {"restart", "running"}, {"kill", "exited"}, {"start", "running"}} {
		status, text := pass("POST", "/containers/"+name+"/"+step[0], object{})
		check(status == 204, "%s: %d %s", step[0], status, text)
		end := time.Now().Add(15 * time.Second)
		for must(engine.ContainerInspect(ctx, name)).State.Status != step[1] {
			check(time.Now().Before(end), "not %s after %s", step[1], step[0])
			time.Sleep(100 * time.Millisecond)
		}
	}
	passed("POST", "/containers/"+name+"/update", object{"RestartPolicy": object{"Name": "no", "MaximumRetryCount": 0}}, nil)
	passed("POST", "/containers/"+name+"/rename?name="+name+"-b", nil, nil)
	passed("POST", "/containers/"+name+"-b/rename?name="+name, nil, nil)
}

func main() {
	engine = must(client.NewClientWithOpts(client.FromEnv, client.WithAPIVersionNegotiation()))
	address = strings.TrimPrefix(os.Getenv("DOCKER_HOST"), "tcp://")
	fmt.Println("# portainer-requests 2.23")
	pull, err := engine.ImagePull(ctx, "nginx:latest", image.PullOptions{})
	if err == nil {
		_, err = io.Copy(io.Discard, pull)
	}
	check(err == nil, "%v", err)
	behaviour("a container made by the form runs", func() {
		var made struct{ Warnings []string }
		passed("POST", "/containers/create?name=web"+suffix, form("web"+suffix), &made)
		check(made.Warnings != nil, "Warnings is null")
		passed("POST", "/containers/web"+suffix+"/start", nil, nil)
	})
	behaviour("the snapshot of the environment", snapshot)
	behaviour("the details of a container, with top, logs and its image", details)
	behaviour("the statistics are polled", stats)
	behaviour("the console loses no byte", console)
	behaviour("attach, and attach by websocket", attach)
	behaviour("recreate keeps name, networks, volumes and labels", recreate)
	behaviour("stop, start, restart, kill, update and rename from the list", lifecycle)
	_, _ = pass("DELETE", "/containers/web"+suffix+"?force=true&v=1", nil)
	_, _ = pass("DELETE", "/containers/web"+suffix+"-old?force=true", nil)
	_, _ = pass("DELETE", "/networks/net"+suffix, nil)
	_, _ = pass("DELETE", "/volumes/data"+suffix, nil)
	if failed {
		os.Exit(1)
	}
}
