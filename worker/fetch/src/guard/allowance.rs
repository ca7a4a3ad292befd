//! Networks that the settings allow even if they are not public.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};

use super::BLOCKED_PORTS;

/// Network that workers may fetch from even if it is not public, on all ports or on one.
///
/// Written `10.1.0.0/16` or `10.1.0.0/16:8080`, and `fd00::/8` or `[fd00::/8]:443`. An IPv4 network
/// also matches IPv4-mapped IPv6 addresses. An allowance never opens a port of another protocol,
/// and never restricts public addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    network: IpNet,
    /// The only allowed port; `None` allows all ports.
    port: Option<u16>,
}

/// Reason why a text is not a valid [`Allowance`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AllowanceFault {
    /// The text does not have an accepted format.
    #[error(
        "must be a network such as 10.1.0.0/16 or fd00::/8, optionally with a port such as \
         10.1.0.0/16:8080 or [fd00::/8]:443"
    )]
    InvalidFormat,
    /// The port belongs to another protocol, so it is refused for every address.
    #[error("has port {0}, which is reserved for another protocol and cannot be allowed")]
    ReservedPort(u16),
}

impl FromStr for Allowance {
    type Err = AllowanceFault;

    fn from_str(text: &str) -> Result<Self, AllowanceFault> {
        // Without brackets, first try the whole text: an IPv6 network contains colons itself.
        let (network, port) = if let Some(bracketed) = text.strip_prefix('[') {
            let (network, port) =
                bracketed.split_once("]:").ok_or(AllowanceFault::InvalidFormat)?;
            (parse_network(network).filter(|network| matches!(network, IpNet::V6(_))), Some(port))
        } else if let Some(network) = parse_network(text) {
            (Some(network), None)
        } else {
            let (network, port) = text.split_once(':').ok_or(AllowanceFault::InvalidFormat)?;
            (parse_network(network), Some(port))
        };
        let network = unmap(network.ok_or(AllowanceFault::InvalidFormat)?);
        let port = port.map(parse_port).transpose()?;
        Ok(Self { network, port })
    }
}

impl Allowance {
    /// Returns whether the network contains an address, regardless of the port.
    pub(super) fn covers(&self, address: IpAddr) -> bool {
        self.network.contains(&address)
    }

    /// Returns whether an address is allowed on a port.
    pub(super) fn permits(&self, address: IpAddr, port: u16) -> bool {
        self.covers(address) && self.port.is_none_or(|allowed| allowed == port)
    }
}

fn parse_network(network: &str) -> Option<IpNet> {
    network.parse().ok()
}

fn parse_port(text: &str) -> Result<u16, AllowanceFault> {
    // The number parser would accept a leading `+`.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|_| is_number).ok_or(AllowanceFault::InvalidFormat)?;
    if BLOCKED_PORTS.contains(&port) { Err(AllowanceFault::ReservedPort(port)) } else { Ok(port) }
}

/// Converts a network of IPv4-mapped addresses to the IPv4 network that it represents.
fn unmap(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else {
        return network;
    };
    let Some(address) = v6.network().to_ipv4_mapped() else {
        return network;
    };
    // A prefix of less than 96 bits also contains addresses that are not IPv4-mapped.
    let unmapped = v6.prefix_len().checked_sub(96).map(|prefix| Ipv4Net::new(address, prefix));
    match unmapped {
        Some(Ok(v4)) => IpNet::V4(v4),
        Some(Err(_)) | None => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permits(allowance: &str, address: &str, port: u16) -> bool {
        let allowance: Allowance = allowance.parse().unwrap();
        allowance.permits(address.parse().unwrap(), port)
    }

    #[test]
    fn a_network_without_a_port_allows_every_port() {
        for port in [80, 443, 8080, 65535] {
            assert!(permits("10.1.0.0/16", "10.1.2.3", port));
            assert!(permits("fd00::/8", "fd12::3", port));
            assert!(!permits("10.1.0.0/16", "10.2.0.1", port));
            assert!(!permits("fd00::/8", "fc00::1", port));
        }
    }

    #[test]
    fn a_network_with_a_port_allows_that_port_alone() {
        for (allowance, address, other) in [
            ("10.1.0.0/16:8080", "10.1.2.3", "10.2.0.1"),
            ("[fd00::/8]:8080", "fd12::3", "fc00::1"),
            ("[::ffff:10.1.0.0/112]:8080", "10.1.2.3", "10.2.0.1"),
            ("127.0.0.1/32:8080", "127.0.0.1", "127.0.0.2"),
        ] {
            assert!(permits(allowance, address, 8080), "{allowance}");
            for port in [0, 80, 8079, 8081] {
                assert!(!permits(allowance, address, port), "{allowance}: {port}");
            }
            assert!(!permits(allowance, other, 8080), "{allowance}: {other}");
        }
    }

    #[test]
    fn malformed_allowances_are_refused() {
        let texts = "10.1.0.0 10.1.0.0/33 10.1.0.0:8080 10.1.0.0/16: 10.1.0.0/16:+80 \
             10.1.0.0/16:65536 10.1.0.0/16:http 10.1.0.0/16:80:81 10.1.0.0/16:80-90 :80 /16:80 \
             10.1.0.0:80/16 [10.1.0.0/16]:80 [10.1.0.0/16] [fd00::/8] [fd00::/8]: [fd00::/8]80 \
             [fd00::]/8:80 [fd00::/8:80 fd00::/8:80 fd00::/8]:80 [[fd00::/8]]:80 fd00:: \
             example.com:80 * localhost/8";
        for text in texts.split(' ').chain(["", "10.1.0.0/16 :80", "10.1.0.0/16: 80"]) {
            assert_eq!(text.parse::<Allowance>(), Err(AllowanceFault::InvalidFormat), "{text:?}");
        }
    }

    #[test]
    fn ports_of_other_protocols_are_not_allowed() {
        for port in BLOCKED_PORTS {
            for text in [format!("10.1.0.0/16:{port}"), format!("[fd00::/8]:{port}")] {
                assert_eq!(
                    text.parse::<Allowance>(),
                    Err(AllowanceFault::ReservedPort(port)),
                    "{text}"
                );
            }
        }
    }
}
