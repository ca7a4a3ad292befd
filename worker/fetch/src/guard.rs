//! Checks that an address is public or allowed before a connection is opened to it.
//!
//! Clients choose the URLs, and must not reach internal services through this machine. The guard
//! works on parsed URLs and on addresses, never on text: the URL parser has already turned `127.1`,
//! `0x7f000001`, `2130706433` and full-width digits into one IPv4 address. The guard returns an
//! [`AllowedAddress`], and only such addresses are ever dialled.
//!
//! It cannot detect custom NAT64 prefixes of a network operator, or a public address that forwards
//! to an internal one.

mod allowance;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use url::{Host, Url};

pub use self::allowance::{Allowance, AllowanceFault};

/// IPv4 ranges that are not public, from IANA's registry of special-purpose addresses.
const BLOCKED_V4: [(Ipv4Net, &str); 16] = [
    (v4(0, 0, 0, 0, 8), "unspecified"),
    (v4(10, 0, 0, 0, 8), "private"),
    (v4(100, 64, 0, 0, 10), "in the carrier-grade NAT range"),
    (v4(127, 0, 0, 0, 8), "loopback"),
    // The metadata service of one large cloud, at a public address.
    (v4(168, 63, 129, 16, 32), "a metadata service"),
    (v4(169, 254, 0, 0, 16), "link-local"),
    (v4(172, 16, 0, 0, 12), "private"),
    (v4(192, 0, 0, 0, 24), "reserved for protocol assignments"),
    (v4(192, 0, 2, 0, 24), "for documentation"),
    (v4(192, 88, 99, 0, 24), "a 6to4 relay"),
    (v4(192, 168, 0, 0, 16), "private"),
    (v4(198, 18, 0, 0, 15), "for benchmarking"),
    (v4(198, 51, 100, 0, 24), "for documentation"),
    (v4(203, 0, 113, 0, 24), "for documentation"),
    (v4(224, 0, 0, 0, 4), "multicast"),
    // Includes the broadcast address.
    (v4(240, 0, 0, 0, 4), "reserved"),
];

/// The only public part of IPv6, apart from [`NAT64`].
const GLOBAL_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// Ranges within [`GLOBAL_V6`] that are not public.
const BLOCKED_V6: [(Ipv6Net, &str); 4] = [
    // Includes Teredo, benchmarking and ORCHID.
    (v6([0x2001, 0, 0], 23), "reserved for protocol assignments"),
    (v6([0x2001, 0xdb8, 0], 32), "for documentation"),
    // Embeds an arbitrary IPv4 address.
    (v6([0x2002, 0, 0], 16), "6to4"),
    (v6([0x3fff, 0, 0], 20), "for documentation"),
];

/// IPv4 addresses behind a translator. On an IPv6-only network every IPv4 host has such an address,
/// so the guard checks the embedded address instead of refusing the whole range.
const NAT64: Ipv6Net = v6([0x64, 0xff9b, 0], 96);

/// Ports of other protocols, from WHATWG's Fetch standard. A server of such a protocol could
/// execute a line of the request as a command.
const BLOCKED_PORTS: [u16; 82] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101,
    102, 103, 104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427,
    465, 512, 513, 514, 515, 526, 530, 531, 532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990,
    993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060, 5061, 6000, 6566, 6665, 6666, 6667,
    6668, 6669, 6679, 6697,
];

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(start: [u16; 3], prefix: u8) -> Ipv6Net {
    let [a, b, c] = start;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// Reason why the guard refused a URL. The text contains no address that the URL does not contain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The scheme is neither http nor https.
    #[error("only http and https URLs are fetched, not \"{scheme}\"")]
    Scheme {
        /// Scheme of the URL, truncated to 32 characters.
        scheme: String,
    },
    /// The URL contains a user name or password. They would be stored and shown with the job. If
    /// they were removed, the server might return another page.
    #[error("URLs with a user name or password are not fetched")]
    Credentials,
    /// The port belongs to another protocol.
    #[error("port {port} is blocked because it belongs to another protocol")]
    Port {
        /// Port of the URL.
        port: u16,
    },
    /// The URL is too long for a request line.
    #[error("the URL is too long")]
    Length,
    /// The URL contains an address that is not public.
    #[error("{0}: {hint}", hint = AllowHint(.0.port))]
    Address(BlockedAddress),
    /// The host name has at least one address that is not public.
    #[error(
        "\"{host}\" resolves to an address that is not public: {hint}",
        hint = AllowHint(.address.port)
    )]
    Name {
        /// Name in the URL.
        host: String,
        /// The blocked address: for the log, not for the client.
        #[source]
        address: BlockedAddress,
    },
}

/// An address that is not public.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("address {address} is {range}")]
pub struct BlockedAddress {
    /// The blocked address.
    pub address: IpAddr,
    /// Kind of the range that contains it, for example `private`.
    pub range: &'static str,
    /// Port of the URL, if this address is allowed on other ports; otherwise `None`.
    pub port: Option<u16>,
}

/// End of the message about a blocked address. With a port: the address is allowed on other ports
/// only.
struct AllowHint(Option<u16>);

impl fmt::Display for AllowHint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("WORDMILL_FETCH_ALLOW does not allow it"),
            Some(port) => write!(f, "WORDMILL_FETCH_ALLOW does not allow port {port}"),
        }
    }
}

/// Address that may be dialled. Only a [`Guard`] creates it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedAddress(IpAddr);

impl AllowedAddress {
    /// Returns the address. An IPv4-mapped IPv6 address is returned as IPv4.
    pub fn address(self) -> IpAddr {
        self.0
    }
}

/// Target of a URL, before its name is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host: a name to be resolved, or an allowed address.
    pub host: TargetHost,
    /// Port, explicit or implied by the scheme.
    pub port: u16,
    /// Scheme of the URL.
    pub scheme: Scheme,
}

/// Host of a [`Target`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetHost {
    /// Name, in lower case and punycode.
    Name(String),
    /// Allowed address.
    Address(AllowedAddress),
}

/// Supported schemes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            TargetHost::Name(name) => write!(f, "{name}:{port}"),
            TargetHost::Address(AllowedAddress(IpAddr::V4(address))) => {
                write!(f, "{address}:{port}")
            }
            TargetHost::Address(AllowedAddress(IpAddr::V6(address))) => {
                write!(f, "[{address}]:{port}")
            }
        }
    }
}

/// Check of URLs and addresses. Allows public addresses, and the networks in the settings.
#[derive(Debug, Clone)]
pub struct Guard {
    allow: Arc<[Allowance]>,
}

impl Guard {
    /// Creates a guard that also allows the networks in `allow`, which need not be public.
    pub fn new(allow: &[Allowance]) -> Self {
        Self { allow: allow.into() }
    }

    /// Checks the parts of a URL that do not depend on name resolution.
    ///
    /// # Errors
    /// [`Refusal`] if the scheme, credentials, the port or an address in the URL is not allowed.
    pub fn check_url(&self, url: &Url) -> Result<Target, Refusal> {
        let scheme = match url.scheme() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            other => {
                return Err(Refusal::Scheme { scheme: other.chars().take(32).collect() });
            }
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::Credentials);
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if BLOCKED_PORTS.contains(&port) {
            return Err(Refusal::Port { port });
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => TargetHost::Name(name.to_owned()),
            Some(Host::Ipv4(address)) => self.check_literal(address.into(), port)?,
            Some(Host::Ipv6(address)) => self.check_literal(address.into(), port)?,
            // The parser gives every http URL a host. An empty name would resolve to nothing.
            None => TargetHost::Name(String::new()),
        };
        Ok(Target { host, port, scheme })
    }

    /// Checks every address of a host name for a port. One blocked address is enough to refuse the
    /// name: such a mixture is an attack or a mistake, and dialling only the allowed addresses
    /// would hide it.
    ///
    /// # Errors
    /// [`Refusal::Name`] if an address is neither public nor allowed on `port`.
    pub fn check_name(
        &self,
        host: &str,
        port: u16,
        addresses: &[IpAddr],
    ) -> Result<Vec<AllowedAddress>, Refusal> {
        let allowed = addresses.iter().map(|&address| self.check_address(address, port));
        let allowed: Result<_, _> = allowed.collect();
        allowed.map_err(|address| Refusal::Name { host: host.to_owned(), address })
    }

    fn check_literal(&self, address: IpAddr, port: u16) -> Result<TargetHost, Refusal> {
        let allowed = self.check_address(address, port).map_err(Refusal::Address)?;
        Ok(TargetHost::Address(allowed))
    }

    fn check_address(&self, address: IpAddr, port: u16) -> Result<AllowedAddress, BlockedAddress> {
        // The system dials the IPv4 address embedded in an IPv4-mapped one, so check the embedded
        // address.
        let address = address.to_canonical();
        let Some(range) = blocked_range(address) else {
            return Ok(AllowedAddress(address));
        };
        if self.allow.iter().any(|allowance| allowance.permits(address, port)) {
            return Ok(AllowedAddress(address));
        }
        let has_other_ports = self.allow.iter().any(|allowance| allowance.covers(address));
        Err(BlockedAddress { address, range, port: has_other_ports.then_some(port) })
    }
}

/// Returns the kind of the blocked range that contains an address; `None` if the address is public.
fn blocked_range(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(address) => {
            let (_, range) = BLOCKED_V4.iter().find(|(network, _)| network.contains(&address))?;
            Some(range)
        }
        IpAddr::V6(address) if NAT64.contains(&address) => {
            let [.., a, b, c, d] = address.octets();
            blocked_range(Ipv4Addr::new(a, b, c, d).into())
        }
        IpAddr::V6(address) if GLOBAL_V6.contains(&address) => {
            let (_, range) = BLOCKED_V6.iter().find(|(network, _)| network.contains(&address))?;
            Some(range)
        }
        // Everything outside of `GLOBAL_V6` is blocked. The match only names the range.
        IpAddr::V6(address) => Some(match address {
            address if address.is_loopback() => "loopback",
            address if address.is_unspecified() => "unspecified",
            address if address.is_multicast() => "multicast",
            address if address.is_unicast_link_local() => "link-local",
            address if address.is_unique_local() => "private",
            _ => "reserved",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(allow: &[&str]) -> Guard {
        let allow: Vec<Allowance> = allow.iter().map(|text| text.parse().unwrap()).collect();
        Guard::new(&allow)
    }

    fn check(guard: &Guard, url: &str) -> Result<Target, Refusal> {
        guard.check_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn addresses_that_are_not_public_are_refused() {
        let hosts = "0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 \
             100.127.255.255 127.0.0.1 127.255.255.254 168.63.129.16 169.254.169.254 172.16.0.1 \
             172.31.255.255 \
             192.0.0.192 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1 198.19.255.255 198.51.100.7 \
             203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255 [::] [::1] \
             [::7f00:1] [::127.0.0.1] [::ffff:127.0.0.1] [::ffff:a9fe:a9fe] [::ffff:0:127.0.0.1] \
             [64:ff9b::7f00:1] [64:ff9b::10.0.0.1] [64:ff9b::169.254.169.254] [64:ff9b:1::1] \
             [64:ff9b:1::8.8.8.8] [100::1] [2001::1] [2001:0:4136:e378:8000:63bf:3fff:fdd2] \
             [2001:2::1] [2001:10::1] [2001:20::1] [2001:db8::1] [2002:7f00:1::] \
             [2002:808:808::1] [3fff::1] [4000::1] [5f00::1] [fc00::1] [fd00:ec2::254] \
             [fd20:ce::254] [fe80::1] [fec0::1] [ff02::1] [ff0e::1]";
        for host in hosts.split(' ') {
            let result = check(&guard(&[]), &format!("http://{host}/"));
            assert!(matches!(result, Err(Refusal::Address(_))), "{host}: {result:?}");
        }
    }

    #[test]
    fn public_addresses_pass() {
        let hosts = "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 126.255.255.255 128.0.0.1 \
             168.63.129.15 172.15.255.255 172.32.0.1 192.0.1.1 198.17.255.255 198.20.0.1 \
             223.255.255.255 \
             [2001:200::1] [2001:4860:4860::8888] [2003::1] [2606:4700::1111] [3ffe::1] \
             [64:ff9b::8.8.8.8] [::ffff:8.8.8.8]";
        for host in hosts.split(' ') {
            let result = check(&guard(&[]), &format!("https://{host}/"));
            assert!(result.is_ok(), "{host}: {result:?}");
        }
    }

    #[test]
    fn every_spelling_of_an_address_is_the_same_address() {
        let address = Ipv4Addr::LOCALHOST.into();
        let loopback = BlockedAddress { address, range: "loopback", port: None };
        let hosts = "127.0.0.1 127.1 127.0.1 2130706433 0x7f000001 0x7F.0.0.1 0177.0.0.1 \
             017700000001 127.0.0.1. 127.0.0.0x1 %31%32%37.0.0.1 １２７.０.０.１ 127。0。0。1 ①②⑦.0.0.1 \
             [::ffff:127.0.0.1] [::FFFF:7F00:1] [0:0:0:0:0:ffff:7f00:0001]";
        for host in hosts.split(' ') {
            let result = check(&guard(&[]), &format!("http://{host}/"));
            assert_eq!(result, Err(Refusal::Address(loopback)), "{host}");
        }
    }

    #[test]
    fn allowed_networks_pass_in_every_spelling() {
        for allow in ["127.0.0.0/8", "127.9.9.9/8", "::ffff:127.0.0.0/104"] {
            let guard = guard(&[allow]);
            for host in ["127.0.0.1", "127.1", "[::ffff:127.0.0.1]"] {
                let target = check(&guard, &format!("http://{host}/")).unwrap();
                let localhost = TargetHost::Address(AllowedAddress(Ipv4Addr::LOCALHOST.into()));
                assert_eq!(target.host, localhost, "{host} with {allow}");
            }
            for host in ["10.0.0.1", "[::1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]"] {
                assert!(check(&guard, &format!("http://{host}/")).is_err(), "{host} with {allow}");
            }
        }
        assert!(check(&guard(&["::1/128", "fd00::/8"]), "http://[::1]/").is_ok());
        assert!(check(&guard(&["::/0"]), "http://127.0.0.1/").is_err());
        assert!(check(&guard(&["0.0.0.0/0"]), "http://[::1]/").is_err());
    }

    #[test]
    fn one_blocked_address_refuses_the_whole_name() {
        let public: IpAddr = "8.8.8.8".parse().unwrap();
        let private: IpAddr = "::ffff:10.1.2.3".parse().unwrap();
        let refusal = guard(&[]).check_name("mixed.test", 80, &[public, private]).unwrap_err();
        assert!(!refusal.to_string().contains("10.1.2.3"), "{refusal}");
        let guard = guard(&["10.0.0.0/8"]);
        assert_eq!(guard.check_name("mixed.test", 80, &[public, private]).unwrap().len(), 2);
    }

    #[test]
    fn an_allowed_port_allows_no_other_port() {
        let guard = guard(&["10.1.0.0/16:8080", "10.1.0.0/16:8443", "[fd00::/8]:443"]);
        for url in [
            "http://10.1.2.3:8080/",
            "https://10.1.2.3:8443/",
            "http://[::ffff:10.1.2.3]:8080/",
            "https://[fd00::1]/",
            "http://[fd00::1]:443/",
            "http://8.8.8.8:9090/",
        ] {
            assert!(check(&guard, url).is_ok(), "{url}");
        }
        for (url, expected) in [
            (
                "http://10.1.2.3:9090/",
                "address 10.1.2.3 is private: WORDMILL_FETCH_ALLOW does not allow port 9090",
            ),
            (
                "http://10.2.0.1:8080/",
                "address 10.2.0.1 is private: WORDMILL_FETCH_ALLOW does not allow it",
            ),
            (
                "http://[fd00::1]/",
                "address fd00::1 is private: WORDMILL_FETCH_ALLOW does not allow port 80",
            ),
            ("http://10.1.2.3:25/", "port 25 is blocked because it belongs to another protocol"),
        ] {
            assert_eq!(check(&guard, url).unwrap_err().to_string(), expected);
        }
        let addresses = ["10.1.2.3".parse().unwrap()];
        assert_eq!(guard.check_name("inside.test", 8080, &addresses).unwrap().len(), 1);
        assert_eq!(
            guard.check_name("inside.test", 9090, &addresses).unwrap_err().to_string(),
            "\"inside.test\" resolves to an address that is not public: WORDMILL_FETCH_ALLOW does \
             not allow port 9090"
        );
    }

    #[test]
    fn a_network_with_and_without_a_port_is_allowed_on_every_port() {
        let guard = guard(&["10.1.0.0/16:8080", "10.0.0.0/8"]);
        for port in [80, 8080, 9090] {
            assert!(check(&guard, &format!("http://10.1.2.3:{port}/")).is_ok(), "{port}");
        }
    }

    #[test]
    fn only_http_urls_without_credentials_on_allowed_ports_pass() {
        let guard = guard(&[]);
        for (url, expected) in [
            ("ftp://example.com/", "only http and https URLs are fetched, not \"ftp\""),
            ("file:///etc/passwd", "only http and https URLs are fetched, not \"file\""),
            ("data:text/plain,x", "only http and https URLs are fetched, not \"data\""),
            ("http://user@example.com/", "URLs with a user name or password are not fetched"),
            ("http://:secret@example.com/", "URLs with a user name or password are not fetched"),
            ("http://example.com:25/", "port 25 is blocked because it belongs to another protocol"),
            ("http://example.com:0/", "port 0 is blocked because it belongs to another protocol"),
        ] {
            assert_eq!(check(&guard, url).unwrap_err().to_string(), expected);
        }
        assert_eq!(check(&guard, "http://example.com/").unwrap().port, 80);
        assert_eq!(check(&guard, "https://example.com/").unwrap().to_string(), "example.com:443");
        assert_eq!(check(&guard, "https://example.com:8443/").unwrap().port, 8443);
    }
}
