//! Pod reports, read outside of passes, so that no pass waits for a node: every five seconds, every second
//! while something moves. What is older than three times that is not known.

use crate::nodes::Nodes;
use crate::observe::{AdminKey, Load, Observed};
use futures_util::{Stream, StreamExt as _, stream};
use protocol::drain::KeyIds;
use protocol::{DrainPhase, DrainReport};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The shortest time between two looks at a node.
const TICK: Duration = Duration::from_secs(1);
/// Looks at nodes of a cluster where nothing moves: every so many ticks.
const IDLE_TICKS: u64 = 5;
/// Nodes that are asked at once.
const CONCURRENCY: usize = 32;
/// The shortest time between two passes because of numbers of sessions.
const NUMBERS_EVERY: Duration = Duration::from_secs(10);
/// What a whole window did not ask for is not needed.
const WINDOW: Duration = Duration::from_secs(300);
/// Clusters that are to be looked at again; a pass that is missed comes with the next one.
const POKES: usize = 64;

/// Namespace and name of a cluster.
pub type ClusterId = (String, String);

/// Reads reports and remembers them.
pub struct Scraper {
    nodes: Nodes,
    clusters: Mutex<BTreeMap<ClusterId, Watched>>,
    pokes: broadcast::Sender<ClusterId>,
}

struct Watched {
    key: AdminKey,
    /// Address of each pod, by uid.
    pods: HashMap<String, String>,
    moves: bool,
    reports: HashMap<String, (DrainReport, Instant)>,
    told: Option<(u64, Instant)>,
    /// Since when every pod has said how it is, and what they carried together since.
    known_since: Option<Instant>,
    loads: VecDeque<(Instant, Load)>,
}

impl Scraper {
    /// Nothing is read before [`Self::run`].
    pub fn new(nodes: Nodes) -> Self {
        Self { nodes, clusters: Mutex::default(), pokes: broadcast::Sender::new(POKES) }
    }

    /// Gives each pod of a pass what it last said.
    pub fn fill(&self, id: &ClusterId, observed: &mut Observed) {
        let clusters = self.lock();
        let Some(watched) = clusters.get(id) else { return };
        let oldest = 3 * if watched.moves { TICK } else { TICK * IDLE_TICKS as u32 };
        for pod in &mut observed.pods {
            let known = watched.reports.get(&pod.uid).filter(|(_, at)| at.elapsed() <= oldest);
            pod.report = known.map(|(report, _)| report.clone());
        }
        observed.load = watched.load();
        observed.peak = watched.peak(Instant::now());
    }

    /// Which pods to ask from now on, and whether something moves.
    pub fn watch(&self, id: &ClusterId, observed: &Observed, moves: bool) {
        let Some(key) = observed.admin_key.clone() else { return self.forget(id) };
        let gateway = observed.pods.iter().filter(|pod| pod.component == "gateway");
        let pods: HashMap<_, _> =
            gateway.filter_map(|pod| Some((pod.uid.clone(), pod.address.clone()?))).collect();
        let mut clusters = self.lock();
        let watched = clusters.entry(id.clone()).or_insert_with(|| Watched {
            key: key.clone(),
            pods: HashMap::new(),
            moves,
            reports: HashMap::new(),
            told: None,
            known_since: None,
            loads: VecDeque::new(),
        });
        watched.reports.retain(|uid, _| pods.contains_key(uid));
        (watched.key, watched.pods, watched.moves) = (key, pods, moves);
    }

    /// A cluster is gone.
    pub fn forget(&self, id: &ClusterId) {
        self.lock().remove(id);
    }

    /// Clusters that are to be looked at again, because of what their pods said.
    pub fn pokes(&self) -> impl Stream<Item = ClusterId> + Send + 'static {
        stream::unfold(self.pokes.subscribe(), async |mut pokes| {
            loop {
                match pokes.recv().await {
                    Ok(id) => return Some((id, pokes)),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return None,
                }
            }
        })
    }

    /// Asks until `stop`.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for tick in 0u64.. {
            if stop.run_until_cancelled(ticks.tick()).await.is_none() {
                return;
            }
            if stop.run_until_cancelled(self.look(tick)).await.is_none() {
                return;
            }
        }
    }

    /// Asks whoever is due at this tick.
    pub(crate) async fn look(&self, tick: u64) {
        let answers = stream::iter(self.due(tick)).map(async |(id, uid, address, key)| {
            let report = self.nodes.report(&address, &key).await;
            if let Err(error) = &report {
                tracing::debug!(namespace = id.0, cluster = id.1, address, %error, "no report");
            }
            (id, uid, report.ok())
        });
        self.take(answers.buffer_unordered(CONCURRENCY).collect().await);
    }

    fn due(&self, tick: u64) -> Vec<(ClusterId, String, String, AdminKey)> {
        let clusters = self.lock();
        let due = clusters.iter().filter(|(_, one)| {
            one.moves || one.reports.len() < one.pods.len() || tick.is_multiple_of(IDLE_TICKS)
        });
        due.flat_map(|(id, one)| {
            one.pods
                .iter()
                .map(|(uid, address)| (id.clone(), uid.clone(), address.clone(), one.key.clone()))
        })
        .collect()
    }

    fn take(&self, answers: Vec<(ClusterId, String, Option<DrainReport>)>) {
        let mut by_cluster = BTreeMap::<_, Vec<_>>::new();
        for (id, uid, report) in answers {
            by_cluster.entry(id).or_default().push((uid, report));
        }
        let mut clusters = self.lock();
        for (id, answers) in by_cluster {
            let Some(watched) = clusters.get_mut(&id) else { continue };
            if watched.take(answers, Instant::now()) {
                // Nobody listens where no controller runs.
                let _ = self.pokes.send(id);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<ClusterId, Watched>> {
        self.clusters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a pass decides by.
fn stands(report: &DrainReport) -> (DrainPhase, u64, bool, u64, &KeyIds) {
    let DrainReport { phase, epoch, accepting, settings_generation, key_ids, .. } = report;
    (*phase, *epoch, *accepting, *settings_generation, key_ids)
}

impl Watched {
    /// What the pods carry that say it.
    fn load(&self) -> Load {
        let reports = || self.reports.values().map(|(report, _)| report);
        Load {
            sessions: reports().map(|report| report.sessions as u64).sum(),
            streams: reports().map(|report| report.streams as u64).sum(),
        }
    }

    /// One more look; a pod that says nothing may carry anything, so that the window begins anew.
    fn remember(&mut self, all_said: bool, now: Instant) {
        if !all_said || self.pods.is_empty() {
            (self.known_since, self.loads) = (None, VecDeque::new());
            return;
        }
        self.known_since.get_or_insert(now);
        let load = self.load();
        self.loads.push_back((now, load));
        let begin = |at: Instant| now.saturating_duration_since(at) > WINDOW;
        while self.loads.front().is_some_and(|(at, _)| begin(*at)) {
            self.loads.pop_front();
        }
    }

    /// The most of a whole window.
    fn peak(&self, now: Instant) -> Option<Load> {
        let whole =
            self.known_since.is_some_and(|since| now.saturating_duration_since(since) >= WINDOW);
        whole.then(|| {
            let most = |of: fn(&Load) -> u64| self.loads.iter().map(|(_, load)| of(load)).max();
            Load {
                sessions: most(|load| load.sessions).unwrap_or_default(),
                streams: most(|load| load.streams).unwrap_or_default(),
            }
        })
    }

    /// Whether a pass is worth its while.
    fn take(&mut self, answers: Vec<(String, Option<DrainReport>)>, now: Instant) -> bool {
        let mut changed = false;
        let all_said = answers.iter().all(|(_, report)| report.is_some());
        for (uid, report) in answers {
            let Some(report) = report else { continue };
            let before = self.reports.get(&uid);
            changed |= before.is_none_or(|(before, _)| stands(before) != stands(&report));
            self.reports.insert(uid, (report, now));
        }
        self.remember(all_said, now);
        let sessions = self.load().sessions;
        let rounded = crate::status::rounded(sessions) as u64;
        let due = self.told.is_none_or(|(told, at)| {
            told != rounded && now.saturating_duration_since(at) >= NUMBERS_EVERY
        });
        if due || changed {
            self.told = Some((rounded, now));
        }
        due || changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::PodFacts;
    use axum::Router;
    use axum::http::{HeaderMap, StatusCode};
    use axum::response::IntoResponse as _;
    use axum::routing::get;
    use crds::names::ADMIN_PORT;
    use serde_json::json;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::net::TcpListener;
    use tokio::task::JoinSet;
    use tokio::time::advance;

    fn report(sessions: u64) -> DrainReport {
        serde_json::from_value(json!({
            "node": "n", "incarnation": "00000000-0000-4000-8000-000000000000", "phase": "serving",
            "epoch": 0, "sessions": sessions, "streams": 0, "accepting": true,
        }))
        .unwrap()
    }

    fn watched(pods: &[&str]) -> Watched {
        Watched {
            key: AdminKey("key".to_owned()),
            pods: pods.iter().map(|uid| ((*uid).to_owned(), "10.0.0.1".to_owned())).collect(),
            moves: false,
            reports: HashMap::new(),
            told: None,
            known_since: None,
            loads: VecDeque::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peak_is_known_after_a_whole_window_in_which_every_pod_spoke() {
        let mut one = watched(&["a", "b"]);
        let say = |one: &mut Watched, a: Option<u64>, b: u64| {
            let answers = vec![("a".to_owned(), a.map(report)), ("b".to_owned(), Some(report(b)))];
            one.take(answers, Instant::now())
        };
        say(&mut one, Some(10), 5);
        advance(WINDOW / 2).await;
        say(&mut one, Some(40), 5);
        assert_eq!(one.peak(Instant::now()), None, "half a window");
        advance(WINDOW / 2).await;
        say(&mut one, Some(1), 1);
        assert_eq!(one.peak(Instant::now()).unwrap().sessions, 45);
        advance(WINDOW * 2 / 3).await;
        say(&mut one, Some(1), 1);
        assert_eq!(one.peak(Instant::now()).unwrap().sessions, 2, "what was before is forgotten");
        say(&mut one, None, 1);
        assert_eq!(one.peak(Instant::now()), None, "a pod was silent");
    }

    #[tokio::test(start_paused = true)]
    async fn numbers_alone_make_a_pass_every_ten_seconds_and_a_phase_at_once() {
        let mut one = watched(&["a"]);
        let mut say =
            |report: DrainReport| one.take(vec![("a".to_owned(), Some(report))], Instant::now());
        assert!(say(report(100)), "the first word");
        assert!(!say(report(200)), "too soon");
        advance(NUMBERS_EVERY).await;
        assert!(!say(report(100)), "as it was told");
        assert!(say(report(200)));
        assert!(say(DrainReport { phase: DrainPhase::Done, ..report(200) }));
    }

    /// A node's admin port that takes one key, on an address of the loopback network of its own.
    async fn node(tasks: &mut JoinSet<()>, sessions: Arc<AtomicU64>) -> String {
        let address = format!("127.83.{}.{}", rand::random::<u8>(), rand::random_range(1..255u8));
        let listener = TcpListener::bind((address.as_str(), ADMIN_PORT)).await.unwrap();
        let say = move |headers: HeaderMap| async move {
            if headers.get("authorization").is_none_or(|key| key != "Bearer key") {
                return StatusCode::UNAUTHORIZED.into_response();
            }
            axum::Json(report(sessions.load(Ordering::Relaxed))).into_response()
        };
        let app = Router::new().route("/admin/drain", get(say));
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        address
    }

    #[tokio::test]
    async fn reports_reach_a_pass_and_a_silent_pod_is_unknown() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (mut tasks, sessions) = (JoinSet::new(), Arc::new(AtomicU64::new(3)));
        let address = node(&mut tasks, sessions.clone()).await;
        let scraper = Arc::new(Scraper::new(Nodes::new().unwrap()));
        let mut pokes = Box::pin(scraper.pokes());
        let stop = CancellationToken::new();
        let (running, end) = (scraper.clone(), stop.clone());
        tasks.spawn(async move { running.run(end).await });
        let pod = |uid: &str, address: &str| PodFacts {
            uid: uid.to_owned(),
            component: "gateway".to_owned(),
            address: Some(address.to_owned()),
            ..PodFacts::default()
        };
        let key = Some(AdminKey("key".to_owned()));
        let pods = vec![pod("a", &address), pod("b", "127.0.0.1")];
        let mut observed = Observed { pods, admin_key: key, ..Observed::default() };
        let id = ("default".to_owned(), "demo".to_owned());
        scraper.watch(&id, &observed, true);
        assert_eq!(pokes.next().await, Some(id.clone()));
        scraper.fill(&id, &mut observed);
        let said: Vec<_> =
            observed.pods.iter().map(|pod| pod.report.as_ref().map(|one| one.sessions)).collect();
        assert_eq!(said, [Some(3), None]);
        assert_eq!((observed.load.sessions, observed.peak), (3, None));
        observed.admin_key = Some(AdminKey("wrong".to_owned()));
        scraper.forget(&id);
        scraper.watch(&id, &observed, true);
        tokio::time::sleep(2 * TICK).await;
        scraper.fill(&id, &mut observed);
        assert!(observed.pods.iter().all(|pod| pod.report.is_none()), "a wrong key brings nothing");
        stop.cancel();
    }
}
