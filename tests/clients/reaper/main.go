// A reaper with the protocol that Testcontainers speaks to its Ryuk, for machines that reach no
// registry which has Ryuk's image: a client connects, sends one filter a line (label=a=b&label=c=d), is
// told ACK each time, and holds the connection. When the last one has been closed for a while,
// everything that fits a filter is removed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"
)

// reaper is what is known of the clients: how many are connected, and what they asked to be removed.
type reaper struct {
	sync.Mutex
	connected int
	filters   []map[string][]string
	changed   chan struct{}
}

func (r *reaper) serve(connection net.Conn) {
	defer connection.Close()
	r.count(1)
	defer r.count(-1)
	lines := bufio.NewScanner(connection)
	for lines.Scan() {
		values, err := url.ParseQuery(strings.TrimSpace(lines.Text()))
		if err != nil || len(values) == 0 {
			log.Printf("not a filter: %q", lines.Text())
			continue
		}
		r.Lock()
		r.filters = append(r.filters, values)
		r.Unlock()
		log.Printf("Adding %v", values)
		fmt.Fprint(connection, "ACK\n")
	}
}

func (r *reaper) count(by int) {
	r.Lock()
	r.connected += by
	r.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

// wait returns when no client has been connected for the given time.
func (r *reaper) wait(first, again time.Duration) {
	patience := first
	for {
		r.Lock()
		connected := r.connected
		r.Unlock()
		timeout := time.After(patience)
		if connected > 0 {
			timeout, patience = nil, again
		}
		select {
		case <-timeout:
			return
		case <-r.changed:
		}
	}
}

type engine struct {
	http.Client
	base string
}

func connect() *engine {
	host := os.Getenv("DOCKER_HOST")
	if address, ok := strings.CutPrefix(host, "tcp://"); ok {
		return &engine{base: "http://" + address}
	}
	path := strings.TrimPrefix(host, "unix://")
	if path == "" {
		path = "/var/run/docker.sock"
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &engine{Client: http.Client{Transport: &http.Transport{DialContext: dial}}, base: "http://docker"}
}

// ask calls the engine; what it answers is decoded into the given value, if there is one.
func (e *engine) ask(method, path string, query url.Values, into any) error {
	request, err := http.NewRequest(method, e.base+path+"?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	answer, err := e.Do(request)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 && answer.StatusCode != http.StatusNotFound {
		return fmt.Errorf("%s %s: %d %s %v", method, path, answer.StatusCode, body, err)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// sweep removes what fits one filter: containers first, which hold the rest.
func (e *engine) sweep(filter map[string][]string) (removed int) {
	encoded, _ := json.Marshal(filter)
	query := url.Values{"filters": {string(encoded)}, "all": {"1"}}
	own, _ := os.Hostname()
	var containers, networks, images []struct{ Id string }
	var volumes struct{ Volumes []struct{ Name string } }
	report := func(err error) bool {
		if err != nil {
			log.Print(err)
		}
		return err == nil
	}
	remove := func(path string, query url.Values) {
		if report(e.ask("DELETE", path, query, nil)) {
			removed++
		}
	}
	report(e.ask("GET", "/containers/json", query, &containers))
	for _, c := range containers {
		if !strings.HasPrefix(c.Id, own) {
			remove("/containers/"+c.Id, url.Values{"force": {"1"}, "v": {"1"}})
		}
	}
	report(e.ask("GET", "/networks", query, &networks))
	for _, n := range networks {
		remove("/networks/"+n.Id, nil)
	}
	report(e.ask("GET", "/volumes", query, &volumes))
	for _, v := range volumes.Volumes {
		remove("/volumes/"+v.Name, url.Values{"force": {"1"}})
	}
	report(e.ask("GET", "/images/json", query, &images))
	for _, i := range images {
		remove("/images/"+i.Id, url.Values{"force": {"1"}})
	}
	return removed
}

func duration(name string, otherwise time.Duration) time.Duration {
	if given, err := time.ParseDuration(os.Getenv(name)); err == nil {
		return given
	}
	return otherwise
}

func main() {
	listener, err := net.Listen("tcp", ":8080")
	if err != nil {
		log.Fatal(err)
	}
	daemon := connect()
	if err := daemon.ask("GET", "/version", nil, nil); err != nil {
		log.Fatalf("no Docker engine: %v", err)
	}
	r := &reaper{changed: make(chan struct{}, 1)}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				log.Fatal(err)
			}
			go r.serve(connection)
		}
	}()
	log.Print("Started!")
	r.wait(duration("RYUK_CONNECTION_TIMEOUT", time.Minute), duration("RYUK_RECONNECTION_TIMEOUT", 10*time.Second))
	removed := 0
	for _, filter := range r.filters {
		removed += daemon.sweep(filter)
	}
	log.Printf("Removed %d", removed)
}
