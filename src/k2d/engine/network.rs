//! The one network of all Pods: a bridge of the engine, a part of whose addresses k2d gives out itself, so that a Pod keeps
//! its address over restarts of its container.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use http::StatusCode;
use ipnet::Ipv4Net;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::client::{Client, Result};
use super::json::{at, text};
use super::labels::{ITSELF, ROLE};

/// Its name on the engine.
pub const NAME: &str = "k2d";

/// The second bytes of the ranges of which one is taken.
const USUAL: std::ops::RangeInclusive<u8> = 89..=127;

/// The parts of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// All of it.
    pub whole: Ipv4Net,
    /// What the engine gives to containers that people join by hand.
    pub joined: Ipv4Net,
    /// What Pods get.
    pub pods: Ipv4Net,
    /// What Services get.
    pub services: Ipv4Net,
}

impl Plan {
    /// A quarter for what is joined by hand, a quarter for Pods, half for Services; none if the range is too small
    /// for that (a prefix longer than 24).
    pub fn of(whole: Ipv4Net) -> Option<Self> {
        if whole.prefix_len() > 24 {
            return None;
        }
        let whole = whole.trunc();
        let mut quarters = whole.subnets(whole.prefix_len() + 2).ok()?;
        let (joined, pods) = (quarters.next()?, quarters.next()?);
        let services = whole.subnets(whole.prefix_len() + 1).ok()?.nth(1)?;
        Some(Self { whole, joined, pods, services })
    }

    /// The usual range, or the next one that none of these routes leads to (`/proc/net/route`).
    pub fn free(routes: &str) -> Option<Self> {
        let taken: Vec<Ipv4Net> = routes.lines().filter_map(route).collect();
        let overlaps = |net: &Ipv4Net| taken.iter().any(|route| route.contains(net) || net.contains(route));
        let mut all = USUAL.filter_map(|second| Ipv4Net::new(Ipv4Addr::new(10, second, 0, 0), 16).ok());
        Self::of(all.find(|net| !overlaps(net))?)
    }

    /// The engine's own address: the first one.
    pub fn gateway(&self) -> Ipv4Addr {
        self.address(1)
    }

    /// The address of `k2d-net`.
    pub fn services_host(&self) -> Ipv4Addr {
        self.address(2)
    }

    /// The DNS server of the Pods, a Service.
    pub fn dns(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.services.network()) + 10)
    }

    /// Where Pods reach the Kubernetes API, a Service.
    pub fn kubernetes(&self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.services.network()) + 1)
    }

    fn address(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.whole.network()) + number)
    }
}

/// The range of one route, unless it is the default one.
fn route(line: &str) -> Option<Ipv4Net> {
    let mut fields = line.split_whitespace().skip(1);
    let address = |text: &str| Some(Ipv4Addr::from(u32::from_str_radix(text, 16).ok()?.swap_bytes()));
    let (destination, mask) = (address(fields.next()?)?, address(fields.nth(5)?)?);
    Ipv4Net::with_netmask(destination, mask).ok().filter(|net| net.prefix_len() > 0)
}

/// The network, and which Pod has which address.
#[derive(Debug)]
pub struct Network {
    /// Its parts.
    pub plan: Plan,
    given: Mutex<BTreeMap<Ipv4Addr, String>>,
}

impl Network {
    /// Finds the network or makes it.
    ///
    /// # Errors
    /// The engine's.
    pub async fn open(client: &Client, plan: Plan) -> Result<Self> {
        let plan = match client.get(&format!("/networks/{NAME}")).await {
            Ok(found) => plan_of(&found).unwrap_or(plan),
            Err(error) if error.is(StatusCode::NOT_FOUND) => {
                make(client, &plan).await?;
                plan
            }
            Err(error) => return Err(error),
        };
        Ok(Self { plan, given: Mutex::default() })
    }

    /// The address of a Pod: the one that it has, else a free one.
    pub fn give(&self, uid: &str) -> Option<Ipv4Addr> {
        let mut given = self.given.lock();
        if let Some((address, _)) = given.iter().find(|(_, owner)| *owner == uid) {
            return Some(*address);
        }
        let free = self.plan.pods.hosts().find(|address| !given.contains_key(address))?;
        given.insert(free, uid.to_owned());
        Some(free)
    }

    /// Notes the address that a Pod has.
    pub fn note(&self, address: Ipv4Addr, uid: &str) {
        self.given.lock().insert(address, uid.to_owned());
    }

    /// Takes the address of a Pod back.
    pub fn take_back(&self, uid: &str) {
        self.given.lock().retain(|_, owner| owner != uid);
    }
}

async fn make(client: &Client, plan: &Plan) -> Result<()> {
    let body = |range: Option<String>| {
        let mut config = json!({"Subnet": plan.whole.to_string(), "Gateway": plan.gateway()});
        if let (Some(range), Some(config)) = (range, config.as_object_mut()) {
            config.insert("IPRange".into(), range.into());
        }
        json!({
            "Name": NAME, "Driver": "bridge", "CheckDuplicate": true, "Labels": {(ROLE): ITSELF},
            "IPAM": {"Driver": "default", "Config": [config]},
        })
    };
    let made = client.post("/networks/create", Some(&body(Some(plan.joined.to_string())))).await;
    match made {
        // Another k2d, or this one at another request, was faster.
        Err(error) if error.is(StatusCode::CONFLICT) => Ok(()),
        made => made.map(drop),
    }
}

/// The parts of a network that is there.
fn plan_of(found: &Value) -> Option<Plan> {
    let subnet = text(at(found, &["IPAM", "Config"]).get(0)?, &["Subnet"]);
    Plan::of(subnet.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_parts_for_people_pods_and_services() {
        let plan = Plan::of("10.89.0.0/16".parse().unwrap()).unwrap();
        assert_eq!(plan.joined.to_string(), "10.89.0.0/18");
        assert_eq!(plan.pods.to_string(), "10.89.64.0/18");
        assert_eq!(plan.services.to_string(), "10.89.128.0/17");
        assert_eq!(plan.gateway().to_string(), "10.89.0.1");
        assert!(Plan::of("10.0.0.0/25".parse().unwrap()).is_none());
    }

    #[test]
    fn a_range_is_taken_that_no_route_leads_to() {
        let head = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";
        let default = "eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n";
        let bridge = "br-1 0000590A 00000000 0001 0 0 0 0000FFFF 0 0 0\n";
        let wide = "tun0 0000000A 00000000 0001 0 0 0 000000FF 0 0 0\n";
        let free = |routes: &[&str]| Plan::free(&routes.concat()).map(|plan| plan.whole.to_string());
        assert_eq!(free(&[head, default]), Some("10.89.0.0/16".into()));
        assert_eq!(free(&[head, default, bridge]), Some("10.90.0.0/16".into()));
        assert_eq!(free(&[head, wide]), None);
    }

    #[test]
    fn a_pod_keeps_its_address_and_no_other_gets_it() {
        let plan = Plan::of("10.1.0.0/24".parse().unwrap()).unwrap();
        let network = Network { plan, given: Mutex::default() };
        network.note("10.1.0.65".parse().unwrap(), "old");
        let one = network.give("one").unwrap();
        assert_eq!((one.to_string(), network.give("one")), ("10.1.0.66".into(), Some(one)));
        let all: Vec<_> = (0..100).filter_map(|number| network.give(&format!("pod {number}"))).collect();
        assert_eq!(all.len(), 60, "62 addresses, two of which are given");
        network.take_back("one");
        assert_eq!(network.give("two"), Some(one));
    }
}
