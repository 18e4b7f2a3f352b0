//! The default Services: `-p` is a LoadBalancer, `-P` a NodePort, neither is none; rules by label
//! or port choose others.

mod check;
mod decide;

d2k_guest::policy! {
    wit: "../../wit",
    world: "ports-policy",
    hook: ports,
    name: "ports",
    summary: "Makes a LoadBalancer Service of published ports, and a NodePort Service of -P.",
    settings: [
        ("service-type", "LoadBalancer", "Type of the Service of -p: LoadBalancer, NodePort, ClusterIP, or none."),
        ("publish-all-type", "NodePort", "Type of the Service of -P: LoadBalancer, NodePort, ClusterIP, or none."),
        ("load-balancer-class", "", "loadBalancerClass of a LoadBalancer."),
        ("source-ranges.*", "", "Networks (CIDR) that may reach a LoadBalancer."),
        ("external-traffic-policy", "", "Cluster or Local."),
        ("annotations.**", "", "Annotations of the Service."),
        ("labels.**", "", "Labels of the Service."),
        ("rules.*.label", "", "The rule fits containers with this label: key, or key=value."),
        ("rules.*.port", "", "The rule fits containers that publish this port on the host: 443, or 8000-8999."),
        ("rules.*.container-port", "", "The rule fits containers that publish this port of their own: 80, or 8000-8999."),
        ("rules.*.service-type", "", "As above, where the rule fits; the first rule that fits counts."),
        ("rules.*.load-balancer-class", "", "As above, where the rule fits."),
        ("rules.*.source-ranges.*", "", "As above, where the rule fits."),
        ("rules.*.external-traffic-policy", "", "As above, where the rule fits."),
        ("rules.*.annotations.**", "", "As above, besides those for all."),
        ("rules.*.labels.**", "", "As above, besides those for all."),
    ],
    check: check::check,
    decide: decide::decide,
}
