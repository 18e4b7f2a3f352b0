// Prometheus' own discovery of Docker containers, which prints the targets that it finds each second.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	"github.com/prometheus/prometheus/discovery/moby"
	"github.com/prometheus/prometheus/discovery/targetgroup"
)

func main() {
	config := moby.DefaultDockerSDConfig
	config.Host = os.Getenv("DOCKER_HOST")
	config.RefreshInterval = model.Duration(time.Second)
	registry := prometheus.NewRegistry()
	metrics := config.NewDiscovererMetrics(registry, discovery.NewRefreshMetrics(registry))
	if err := metrics.Register(); err != nil {
		panic(err)
	}
	found, err := config.NewDiscoverer(discovery.DiscovererOptions{Logger: slog.Default(), Metrics: metrics})
	if err != nil {
		panic(err)
	}
	groups := make(chan []*targetgroup.Group)
	go found.Run(context.Background(), groups)
	for group := range groups {
		for _, one := range group {
			if err := json.NewEncoder(os.Stdout).Encode(one.Targets); err != nil {
				panic(err)
			}
		}
	}
}
