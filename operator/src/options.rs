//! The command line.

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;

/// Turns ChatCluster resources into running chat nodes, and keeps them so.
#[derive(Debug, Parser)]
#[command(name = "operator", version)]
pub struct Options {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch ChatClusters and carry them out, as one of several replicas of which one writes
    Run(Run),
    /// Look whether the installed definition knows every field of this version; exit code 1: it does not
    Check,
    /// Print the definition of ChatCluster, for `kubectl apply --server-side -f -`
    Crds,
}

/// Where and as whom.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "The API server is the one of the pod's service account, or of KUBECONFIG.\n\
    SIGTERM gives the lease back, so that another replica goes on within seconds. Exit code 1: the\n\
    lease was lost, or the port is taken.\nRUST_LOG=debug shows more."
)]
pub struct Run {
    /// The data plane's image where a ChatCluster names none
    #[arg(long, env = "OPERATOR_DATAPLANE_IMAGE", default_value_t = default_image())]
    pub dataplane_image: String,
    /// The embedded Redis' image
    #[arg(long, env = "OPERATOR_REDIS_IMAGE", default_value = "docker.io/library/redis:7.4")]
    pub redis_image: String,
    /// Namespaces to watch, separated by commas; empty: all, which needs a ClusterRole
    #[arg(long, env = "OPERATOR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// The operator's own namespace: the lease is there, and network policies let it in
    #[arg(long, env = "POD_NAMESPACE", default_value = "chatcluster-system")]
    pub namespace: String,
    /// This replica's name, for the lease
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub name: String,
    /// Probes and metrics
    #[arg(long, env = "OPERATOR_ADMIN_ADDRESS", default_value = "0.0.0.0:8081")]
    pub admin_address: SocketAddr,
    /// The lease's name; one for each set of namespaces
    #[arg(long, env = "OPERATOR_LEASE", default_value = "chatcluster-operator")]
    pub lease: String,
}

impl Run {
    /// The namespaces to watch; none: all.
    pub fn namespaces(&self) -> impl Iterator<Item = &str> {
        self.watch_namespaces.iter().map(String::as_str).filter(|name| !name.is_empty())
    }
}

fn default_image() -> String {
    format!("ghcr.io/chatcluster/dataplane:{}", env!("CARGO_PKG_VERSION"))
}
