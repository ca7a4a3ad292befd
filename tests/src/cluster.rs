//! One nats-server, or a cluster of several, on loopback.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::proxy::{Direction, Proxy, Rule};
use crate::stack::{self, Nats};
use crate::{port, wait_for};

/// Maximum wait until all servers are healthy.
const HEALTHY_TIME_MAX: Duration = Duration::from_secs(60);

/// Servers with the same configuration file. The settings of the cluster are command-line
/// arguments.
pub struct Cluster {
    /// The servers.
    pub nodes: Vec<Nats>,
    monitors: Vec<Client>,
    links: Vec<Link>,
    _directories: Vec<TempDir>,
}

/// The proxy on the route from one server to another.
struct Link {
    from: usize,
    to: usize,
    proxy: Proxy,
}

impl Cluster {
    /// Starts `size` servers with the shipped configuration. A single server is not clustered.
    pub fn start(size: usize) -> Self {
        Self::configured(size, &stack::shipped_configuration())
    }

    /// Starts `size` servers with another configuration file.
    pub fn configured(size: usize, configuration: &Path) -> Self {
        Self::with(size, configuration, |_, _, _| None)
    }

    /// Starts `size` servers with a proxy on each route.
    pub fn linked(size: usize) -> Self {
        let configuration = stack::shipped_configuration();
        Self::with(size, &configuration, |from, to, address| {
            Some(Link { from, to, proxy: Proxy::start(address) })
        })
    }

    /// Restarts all servers with another configuration file, and waits until they are healthy.
    pub fn restart_configured(&mut self, configuration: &Path) {
        self.restart_unchecked(configuration);
        self.wait_until_healthy();
    }

    /// Restarts all servers with another configuration file. Does not wait until they are healthy.
    pub fn restart_unchecked(&mut self, configuration: &Path) {
        for node in &mut self.nodes {
            node.process.stop();
        }
        for node in &mut self.nodes {
            node.restart_configured(configuration);
        }
    }

    fn with(
        size: usize,
        configuration: &Path,
        link: impl Fn(usize, usize, &str) -> Option<Link>,
    ) -> Self {
        let ports: Vec<u16> = (0..2 * size).map(|_| port::reserve()).collect();
        let (monitors, routes) = ports.split_at(size);
        let directories: Vec<TempDir> =
            (0..size).map(|_| TempDir::new().expect("a directory")).collect();
        let mut links = Vec::new();
        let mut start = |index: usize| {
            let mut arguments = vec![format!("--http_port={}", monitors[index])];
            if size > 1 {
                let mut addresses = Vec::new();
                for (to, port) in routes.iter().enumerate().filter(|(to, _)| *to != index) {
                    let address = format!("127.0.0.1:{port}");
                    let link = link(index, to, &address);
                    addresses.push(link.as_ref().map_or(address, |link| link.proxy.address()));
                    links.extend(link);
                }
                arguments.extend(cluster_arguments(index, routes[index], &addresses));
            }
            Nats::start_configured(directories[index].path(), configuration, arguments)
        };
        let nodes = (0..size).map(&mut start).collect();
        let cluster = Self {
            nodes,
            links,
            monitors: monitors
                .iter()
                .map(|port| Client::new(&format!("127.0.0.1:{port}")))
                .collect(),
            _directories: directories,
        };
        cluster.wait_until_healthy();
        cluster
    }

    /// Returns the client addresses of all servers.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Nats::address).collect()
    }

    /// Delays the replication to a server. It receives no writes to streams that it does not lead,
    /// and continues to answer reads from its outdated state. Resume within 4 s, otherwise the
    /// server starts an election.
    pub fn delay_replication(&self, server: usize) {
        for link in &self.links {
            let direction = match server {
                server if server == link.from => Direction::ToClient,
                server if server == link.to => Direction::ToServer,
                _ => continue,
            };
            link.proxy.add_rule(Rule::hold("$NRG.AE.S-").in_direction(direction));
        }
    }

    /// Ends the delay and forwards the held writes.
    pub fn resume_replication(&self) {
        self.links.iter().for_each(|link| link.proxy.release());
    }

    /// Returns whether every server is healthy and up to date with its streams.
    pub fn is_healthy(&self) -> bool {
        self.monitors.iter().all(|monitor| {
            monitor.try_send("GET", "/healthz", &[], &[]).is_ok_and(|answer| answer.status == 200)
        })
    }

    /// Waits until every server is healthy.
    pub fn wait_until_healthy(&self) {
        wait_for("all nats-servers are healthy", HEALTHY_TIME_MAX, || {
            self.is_healthy().then_some(())
        });
    }

    /// Provisions the topology with one replica per server.
    pub fn provision(&self, settings: &[(&str, &str)]) {
        let replicas = self.nodes.len().to_string();
        let mut settings = settings.to_vec();
        settings.push(("WORDMILL_REPLICAS", &replicas));
        stack::provision(&self.addresses().join(","), &settings);
    }
}

/// Returns the arguments that make server `index` a member of the cluster, with routes to
/// `addresses`. The server does not advertise other members to clients or servers, so that all use
/// only their configured addresses, which may be proxies.
fn cluster_arguments(index: usize, port: u16, addresses: &[String]) -> Vec<String> {
    let routes: Vec<String> =
        addresses.iter().map(|address| format!("nats-route://{address}")).collect();
    vec![
        format!("--name=n{index}"),
        "--cluster_name=test".to_owned(),
        format!("--cluster=nats://127.0.0.1:{port}"),
        // An unusable address, so that members do not learn routes around the proxies.
        "--cluster_advertise=127.0.0.1:1".to_owned(),
        format!("--routes={}", routes.join(",")),
        "--no_advertise".to_owned(),
    ]
}
