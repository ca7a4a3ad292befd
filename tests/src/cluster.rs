//! One nats-server, or several that form a cluster, on loopback.

use std::time::Duration;

use tempfile::TempDir;

use crate::client::Client;
use crate::stack::{self, Nats};
use crate::{port, wait_for};

/// How long a cluster may take to agree on who leads.
const AGREE_MAX: Duration = Duration::from_secs(60);

/// The servers, with our configuration; what makes them a cluster is on their command line.
pub struct Cluster {
    /// The servers.
    pub nodes: Vec<Nats>,
    monitors: Vec<Client>,
    _directories: Vec<TempDir>,
}

impl Cluster {
    /// Starts `size` servers; one alone is a server as it always is.
    pub fn start(size: usize) -> Self {
        let ports: Vec<u16> = (0..2 * size).map(|_| port::reserved()).collect();
        let (monitors, routes) = ports.split_at(size);
        let directories: Vec<TempDir> =
            (0..size).map(|_| TempDir::new().expect("a directory")).collect();
        let start = |index: usize| {
            let mut arguments = vec![format!("--http_port={}", monitors[index])];
            if size > 1 {
                arguments.extend(cluster_arguments(index, routes));
            }
            Nats::start_with(directories[index].path(), arguments)
        };
        let cluster = Self {
            nodes: (0..size).map(start).collect(),
            monitors: monitors
                .iter()
                .map(|port| Client::new(&format!("127.0.0.1:{port}")))
                .collect(),
            _directories: directories,
        };
        cluster.wait_until_healthy();
        cluster
    }

    /// Returns the addresses for clients.
    pub fn addresses(&self) -> Vec<String> {
        self.nodes.iter().map(Nats::address).collect()
    }

    /// Tells whether every server has caught up with everything that it keeps.
    pub fn is_healthy(&self) -> bool {
        self.monitors.iter().all(|monitor| {
            monitor.try_send("GET", "/healthz", &[], &[]).is_ok_and(|answer| answer.status == 200)
        })
    }

    /// Waits for that.
    pub fn wait_until_healthy(&self) {
        wait_for("all nats-servers are healthy", AGREE_MAX, || self.is_healthy().then_some(()));
    }

    /// Provisions everything, with as many replicas as there are servers.
    pub fn provision(&self, settings: &[(&str, &str)]) {
        let replicas = self.nodes.len().to_string();
        let mut settings = settings.to_vec();
        settings.push(("WORDMILL_REPLICAS", &replicas));
        stack::provision(&self.addresses().join(","), &settings);
    }
}

/// Returns what makes server number `index` a member. Clients are not told of the other members:
/// they know those that they may use, each behind a proxy.
fn cluster_arguments(index: usize, routes: &[u16]) -> Vec<String> {
    let route = |port: &u16| format!("nats-route://127.0.0.1:{port}");
    let all: Vec<String> = routes.iter().map(route).collect();
    vec![
        format!("--name=n{index}"),
        "--cluster_name=test".to_owned(),
        format!("--cluster=nats://127.0.0.1:{}", routes[index]),
        format!("--routes={}", all.join(",")),
        "--no_advertise".to_owned(),
    ]
}
