//! The fields of `NetworkingConfig`: how a container joins its networks.

use super::{Field, mapped, noop, warned};

const ADDRESS: &str = "the cluster's network gives a Pod its address; use names or --network-alias";
const ECHO: &str = "what inspect reported of an earlier container; Docker ignores it too";

pub(super) const FIELDS: &[Field] = &[
    mapped("NetworkingConfig.EndpointsConfig.*.Aliases", "names that resolve in the Pods of the network"),
    warned("NetworkingConfig.EndpointsConfig.*.IPAMConfig.IPv4Address", ADDRESS),
    warned("NetworkingConfig.EndpointsConfig.*.IPAMConfig.IPv6Address", ADDRESS),
    warned("NetworkingConfig.EndpointsConfig.*.IPAMConfig.LinkLocalIPs", ADDRESS),
    mapped("NetworkingConfig.EndpointsConfig.*.Links", "names that resolve in this container's Pod alone"),
    warned("NetworkingConfig.EndpointsConfig.*.MacAddress", ADDRESS),
    warned(
        "NetworkingConfig.EndpointsConfig.*.DriverOpts",
        "a Pod has one network interface, which the cluster sets up",
    ),
    warned(
        "NetworkingConfig.EndpointsConfig.*.GwPriority",
        "a Pod has one network interface and one gateway",
    ),
    noop("NetworkingConfig.EndpointsConfig.*.NetworkID", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.EndpointID", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.Gateway", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.IPAddress", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.IPPrefixLen", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.IPv6Gateway", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.GlobalIPv6Address", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.GlobalIPv6PrefixLen", ECHO),
    noop("NetworkingConfig.EndpointsConfig.*.DNSNames", ECHO),
];
