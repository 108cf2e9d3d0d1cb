//! The operator's process: options, logs, and the parts that run side by side.

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use crds::manifest;
use kube::Client;
use kube::runtime::events::{Recorder, Reporter};
use operator::admin;
use operator::backoff::Backoff;
use operator::controller::{self, Context};
use operator::leader::Candidate;
use operator::metrics::Metrics;
use operator::nodes::Nodes;
use operator::options::{Command, Options, Run};
use operator::schema_check::{self, Installed};
use operator::scrape::Scraper;
use operator::validate::Defaults;
use std::io::IsTerminal as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How often the installed definition is looked at.
const LOOK: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let options = Options::parse();
    log();
    // Refused only where somebody installed one before, and then there is one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match options.command {
        Command::Crds => {
            let definition = manifest::definition().context("the definition")?;
            println!("{}", serde_saphyr::to_string(&definition).context("the definition")?);
            Ok(())
        }
        Command::Check => check().await,
        Command::Run(options) => run(options).await,
    }
}

fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() { builder.init() } else { builder.json().init() }
}

async fn client() -> Result<Client> {
    Client::try_default().await.context("no API server: neither a service account nor KUBECONFIG")
}

async fn check() -> Result<()> {
    match schema_check::look(&client().await?).await.context("reading the definition")? {
        Installed::Complete => {
            println!("the installed definition knows every field of this version")
        }
        Installed::Unknown => {
            println!("the definition may not be read from here; nothing was compared")
        }
        Installed::Absent => bail!("ChatCluster is not installed: helm install chatcluster-crds"),
        Installed::Lacks(fields) => bail!(
            "the installed definition drops {}: helm upgrade chatcluster-crds to this version",
            fields.join(", ")
        ),
    }
    Ok(())
}

async fn run(options: Run) -> Result<()> {
    let client = client().await?;
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let metrics = Arc::<Metrics>::default();
    tasks.spawn(until_told(stop.clone()));
    let lacking = Arc::<RwLock<Vec<String>>>::default();
    // A definition belongs to the whole cluster: an operator of some namespaces may not read it.
    if options.namespaces().next().is_none() {
        tasks.spawn(keep_looking(client.clone(), lacking.clone(), metrics.clone(), stop.clone()));
    }
    let serving = admin::serve(options.admin_address, metrics.clone(), stop.clone());
    let address = options.admin_address;
    // Either end is the end of both; the lease is given back before the process goes.
    let serving = async {
        let served = serving.await.with_context(|| format!("serving {address}"));
        stop.cancel();
        served
    };
    let leading = async {
        let led = lead(client, options, metrics, lacking, stop.clone()).await;
        stop.cancel();
        led
    };
    let (served, led) = tokio::join!(serving, leading);
    tasks.close();
    tasks.wait().await;
    served.and(led)
}

async fn until_told(stop: CancellationToken) {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = term.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
        () = stop.cancelled() => {}
    }
    stop.cancel();
}

/// Leads, and while it does lets the controllers run.
async fn lead(
    client: Client,
    options: Run,
    metrics: Arc<Metrics>,
    lacking: Arc<RwLock<Vec<String>>>,
    stop: CancellationToken,
) -> Result<()> {
    // Two lives of one pod are two candidates.
    let identity = format!("{}_{:016x}", options.name, rand::random::<u64>());
    let candidate = Candidate::new(client.clone(), &options.namespace, &options.lease, identity);
    let (leads, mut is_leader) = watch::channel(false);
    // The lease is given back when the controllers have ended, not before.
    let release = CancellationToken::new();
    let mut controlled = Ok(());
    let work = async {
        let stopped = stop.cancelled();
        tokio::select! {
            led = is_leader.wait_for(|leads| *leads) => drop(led),
            () = stopped => {}
        }
        metrics.leads(!stop.is_cancelled());
        if !stop.is_cancelled() {
            controlled = control(client, &options, metrics.clone(), lacking, &stop).await;
        }
        metrics.leads(false);
        release.cancel();
    };
    let (lost, ()) = tokio::join!(
        async {
            let kept = candidate.run(&leads, &release).await;
            stop.cancel();
            kept
        },
        work
    );
    lost?;
    controlled
}

/// One controller for all namespaces, or one for each that is named.
async fn control(
    client: Client,
    options: &Run,
    metrics: Arc<Metrics>,
    lacking: Arc<RwLock<Vec<String>>>,
    stop: &CancellationToken,
) -> Result<()> {
    let nodes = Nodes::new().context("an HTTP client for nodes")?;
    let scraper = Arc::new(Scraper::new(nodes.clone()));
    let reporter = Reporter {
        controller: "chatcluster-operator".to_owned(),
        instance: Some(options.name.clone()),
    };
    let context = Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        defaults: Defaults {
            image: options.dataplane_image.clone(),
            redis_image: options.redis_image.clone(),
            namespace: options.namespace.clone(),
        },
        metrics,
        lacking,
        backoff: Backoff::default(),
        nodes,
        scraper: scraper.clone(),
        now: Arc::new(operator::clock::now),
    });
    let mut namespaces: Vec<_> = options.namespaces().map(str::to_owned).map(Some).collect();
    if namespaces.is_empty() {
        namespaces.push(None);
    }
    let controllers = namespaces
        .into_iter()
        .map(|namespace| controller::run(context.clone(), namespace, stop.clone()));
    tokio::join!(scraper.run(stop.clone()), futures_util::future::join_all(controllers));
    Ok(())
}

/// Fields that the installed definition drops are told in a metric, a log line and on every cluster.
async fn keep_looking(
    client: Client,
    lacking: Arc<RwLock<Vec<String>>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
) {
    let mut before = None;
    loop {
        match schema_check::look(&client).await {
            Ok(installed) => {
                if before.as_ref() != Some(&installed) {
                    tell(&installed);
                }
                let fields = if let Installed::Lacks(fields) = &installed {
                    fields.clone()
                } else {
                    Vec::new()
                };
                metrics.missing(fields.len());
                *lacking.write().unwrap_or_else(PoisonError::into_inner) = fields;
                before = Some(installed);
            }
            Err(error) => tracing::warn!(%error, "the definition of ChatCluster could not be read"),
        }
        if stop.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_none() {
            return;
        }
    }
}

fn tell(installed: &Installed) {
    match installed {
        Installed::Complete | Installed::Unknown => {}
        Installed::Absent => {
            tracing::warn!("ChatCluster is not installed yet: helm install chatcluster-crds")
        }
        Installed::Lacks(fields) => tracing::error!(
            fields = fields.join(", "),
            "the installed definition drops these fields: helm upgrade chatcluster-crds"
        ),
    }
}
