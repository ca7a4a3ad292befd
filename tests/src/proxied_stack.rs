//! A stack whose gateways or workers reach the broker through proxies.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::client::Client;
use crate::proxy::Proxy;
use crate::receiver::Receiver;
use crate::site::Site;
use crate::stack::{Gateway, Nats, Worker, wait_until_ready};

/// Services that reach the broker through a proxy. All others connect directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxied {
    /// This number of gateways, each through its own proxy. Workers can share these proxies.
    Gateways(usize),
    /// Workers, through one proxy. One gateway connects directly.
    Workers,
}

/// Gateways, their broker, and proxies for fault rules. Tests start the workers, because most
/// faults must be in place before the first delivery.
pub struct ProxiedStack {
    /// The gateways, ready.
    pub gateways: Vec<Gateway>,
    /// One proxy per proxied gateway, or one for all workers.
    pub proxies: Vec<Proxy>,
    /// A direct administrator connection.
    pub admin: Admin,
    /// A web site that jobs fetch from.
    pub site: Site,
    /// A receiver of webhooks.
    pub receiver: Receiver,
    /// The broker.
    pub nats: Nats,
    _directory: TempDir,
}

impl ProxiedStack {
    /// Starts a provisioned broker and gateways with `settings`, and waits until the gateways are
    /// ready.
    pub fn start(proxied: Proxied, settings: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().expect("a directory");
        let nats = Nats::start(directory.path());
        nats.provision(settings);
        let start_gateway = |address: String| {
            let gateway = Gateway::start(&address, settings);
            wait_until_ready(&gateway.client);
            gateway
        };
        let start_proxy = || Proxy::start(&nats.address());
        let (proxies, gateways) = match proxied {
            Proxied::Gateways(count) => {
                let proxies: Vec<Proxy> = (0..count).map(|_| start_proxy()).collect();
                let addresses = proxies.iter().map(Proxy::address);
                let gateways = addresses.map(start_gateway).collect();
                (proxies, gateways)
            }
            Proxied::Workers => (vec![start_proxy()], vec![start_gateway(nats.address())]),
        };
        Self {
            gateways,
            proxies,
            admin: Admin::connect(&nats),
            site: Site::start(),
            receiver: Receiver::start(),
            nats,
            _directory: directory,
        }
    }

    /// Sets the ack wait of the consumers of jobs and webhooks.
    #[must_use]
    pub fn with_ack_wait(self, wait: Duration) -> Self {
        self.admin.set_ack_wait(wait);
        self.admin.set_ack_wait_of("WEBHOOKS", &["webhooks"], wait);
        self
    }

    /// Returns a client of the first gateway.
    pub fn client(&self) -> &Client {
        &self.gateways[0].client
    }

    /// Returns the first proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxies[0]
    }

    /// Returns a job from the API of the first gateway.
    pub fn job(&self, job_id: &str) -> Value {
        self.client().get(&format!("/v1/jobs/{job_id}")).json()
    }

    /// Returns the revision of a job's record, as an entity tag.
    pub fn etag(&self, job_id: &str) -> Option<String> {
        let answer = self.client().get(&format!("/v1/jobs/{job_id}"));
        answer.header("etag").map(str::to_owned)
    }

    /// Starts a worker behind the first proxy, and waits until it is ready.
    pub fn start_proxied_worker(&self, settings: &[(&str, &str)]) -> Worker {
        start_worker(&self.proxy().address(), settings)
    }

    /// Starts a worker that connects to the broker directly, and waits until it is ready.
    pub fn start_direct_worker(&self, settings: &[(&str, &str)]) -> Worker {
        start_worker(&self.nats.address(), settings)
    }
}

fn start_worker(address: &str, settings: &[(&str, &str)]) -> Worker {
    let worker = Worker::start(address, settings);
    wait_until_ready(&worker.health);
    worker
}
