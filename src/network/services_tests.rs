//! Which listeners Services want, and in which order endpoints are tried.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};

use super::balance::Balance;
use super::host_ports::host_ports;
use super::services::{MachineSide, Place, Protocol, Side, Wanted, wanted};

fn want(services: Value, slices: Value) -> Wanted {
    let loopback = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let machine = MachineSide { node_ports: loopback, load_balancer: loopback, host_ports: loopback };
    wanted(
        &serde_json::from_value::<Vec<_>>(services).unwrap(),
        &serde_json::from_value::<Vec<_>>(slices).unwrap(),
        machine,
    )
}

fn slice(service: &str, endpoints: Value, ports: Value) -> Value {
    let labels = json!({"kubernetes.io/service-name": service});
    json!({"metadata": {"namespace": "a", "labels": labels}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports})
}

fn place(side: Side, at: &str, protocol: Protocol) -> Place {
    Place { side, at: at.parse().unwrap(), protocol }
}

#[test]
fn ports_go_to_the_ready_endpoints_of_the_slices_port_of_that_name() {
    let services = json!([{"metadata": {"name": "s", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.9", "ports": [
        {"name": "web", "port": 80}, {"name": "dns", "port": 80, "protocol": "UDP"}, {"name": "none", "port": 81}, {"name": "x", "port": 82, "protocol": "SCTP"}]}}]);
    let endpoints = json!([{"addresses": ["10.88.0.6"]}, {"addresses": ["10.88.0.5"], "conditions": {"ready": true}},
        {"addresses": ["10.88.0.7"], "conditions": {"ready": false}}, {"addresses": ["fd00::1"]}]);
    let ports = json!([{"name": "web", "port": 8080}, {"name": "dns", "port": 5353, "protocol": "UDP"}, {"name": "x", "port": 1, "protocol": "SCTP"}]);
    let wanted = want(services, json!([slice("s", endpoints, ports)]));
    let places: Vec<&Place> = wanted.listeners.keys().collect();
    assert_eq!(
        places,
        [
            &place(Side::Cluster, "10.96.0.9:80", Protocol::Tcp),
            &place(Side::Cluster, "10.96.0.9:80", Protocol::Udp)
        ]
    );
    let endpoints: Vec<String> =
        wanted.listeners.values().flat_map(|target| &target.endpoints).map(ToString::to_string).collect();
    assert_eq!(endpoints, ["10.88.0.5:8080", "10.88.0.6:8080", "10.88.0.5:5353", "10.88.0.6:5353"]);
}

#[test]
fn endpoints_that_end_serve_while_no_other_one_is_ready() {
    let services = json!([{"metadata": {"name": "s", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.9", "ports": [{"port": 80}]}}]);
    let ends = json!({"addresses": ["10.88.0.5"], "conditions": {"ready": false, "serving": true, "terminating": true}});
    let broken = json!({"addresses": ["10.88.0.6"], "conditions": {"ready": false, "serving": false, "terminating": true}});
    let ready = json!({"addresses": ["10.88.0.7"], "conditions": {"ready": true, "serving": true}});
    for (endpoints, served) in [
        (json!([ends, broken]), vec!["10.88.0.5:1"]),
        (json!([ends, broken, ready]), vec!["10.88.0.7:1"]),
        (json!([broken]), vec![]),
    ] {
        let wanted = want(services.clone(), json!([slice("s", endpoints, json!([{"port": 1}]))]));
        let all = wanted.listeners.values().flat_map(|target| &target.endpoints);
        assert_eq!(all.map(ToString::to_string).collect::<Vec<_>>(), served);
    }
}

#[test]
fn the_machine_holds_node_ports_and_load_balancer_ports_even_without_endpoints() {
    let services = json!([{"metadata": {"name": "s", "namespace": "a"}, "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.9",
        "ports": [{"port": 80, "nodePort": 30080}]}}]);
    let wanted = want(services, json!([]));
    let places: Vec<&Place> = wanted.listeners.keys().collect();
    assert_eq!(
        places,
        [
            &place(Side::Node, "127.0.0.1:30080", Protocol::Tcp),
            &place(Side::LoadBalancer, "127.0.0.1:80", Protocol::Tcp)
        ]
    );
}

#[test]
fn the_older_of_two_services_keeps_a_port_and_the_other_is_told() {
    let service = |name: &str, time: &str| {
        json!({"metadata": {"name": name, "namespace": "a", "creationTimestamp": time},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}})
    };
    let wanted =
        want(json!([service("a", "2026-01-02T00:00:00Z"), service("z", "2026-01-01T00:00:00Z")]), json!([]));
    assert_eq!(wanted.listeners.values().next().unwrap().of.name, "z");
    assert_eq!(wanted.problems.len(), 1);
    assert_eq!(wanted.problems[0].of.name, "a");
    assert!(wanted.problems[0].message.contains("taken by a/z"));
}

#[test]
fn host_ports_lead_to_pods_that_run_unless_a_service_has_the_port() {
    let services = json!([{"metadata": {"name": "s", "namespace": "a"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}}]);
    let pod = |name: &str, phase: &str, port: u16| {
        json!({"metadata": {"name": name, "namespace": "a"}, "status": {"phase": phase, "podIP": "10.88.0.5"},
            "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}, {"containerPort": 8081, "hostPort": port}]}]}})
    };
    let mut wanted = want(services, json!([]));
    let pods = json!([pod("one", "Running", 80), pod("two", "Running", 81), pod("three", "Pending", 82)]);
    let pods: Vec<super::objects::Pod> = serde_json::from_value(pods).unwrap();
    for (at, target) in host_ports(&pods, Some(IpAddr::V4(Ipv4Addr::LOCALHOST))) {
        wanted.add(Side::Host, at, &target);
    }
    let target = &wanted.listeners[&place(Side::Host, "127.0.0.1:81", Protocol::Tcp)];
    assert_eq!(target.endpoints, ["10.88.0.5:8081".parse().unwrap()]);
    assert_eq!((wanted.listeners.len(), wanted.problems.len()), (2, 1));
    assert_eq!(wanted.problems[0].of.name, "one");
}

#[test]
fn endpoints_take_turns_and_a_client_that_is_to_stay_stays() {
    let service = |affinity: &str| {
        let services = json!([{"metadata": {"name": "s", "namespace": "a"}, "spec": {"clusterIP": "10.96.0.9", "sessionAffinity": affinity, "ports": [{"port": 80}]}}]);
        let endpoints = json!([{"addresses": ["10.88.0.5"]}, {"addresses": ["10.88.0.6"]}]);
        let wanted = want(services, json!([slice("s", endpoints, json!([{"port": 1}]))]));
        Balance::new(wanted.listeners.into_values().next().unwrap())
    };
    let client = IpAddr::V4(Ipv4Addr::new(10, 88, 0, 9));
    let first = |balance: &Balance| -> SocketAddr {
        let endpoint = balance.order(client)[0];
        balance.went(client, endpoint);
        endpoint
    };
    let turns = service("None");
    assert_eq!(turns.order(client).len(), 2);
    assert_ne!(first(&turns), first(&turns));
    let stays = service("ClientIP");
    let had = first(&stays);
    assert!((0..5).all(|_| first(&stays) == had));
    assert!((0..5).all(|_| stays.with(stays.target.clone()).order(client)[0] == had));
}
