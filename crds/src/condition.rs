//! The closed set of conditions and of their reasons. `docs/operations.md` has a row for each reason.

/// The types of a ChatCluster's conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// All that the spec asks for is there: what scripts wait for.
    Ready,
    /// People can chat.
    Available,
    /// Something is under way.
    Progressing,
    /// Something is wrong that the operator cannot mend alone. Absent or False when fine.
    Degraded,
    /// Redis is configured as it must be and its pods (embedded) are there.
    RedisReady,
    /// All Secrets that are referred to are there, with the keys that are named.
    SecretsReady,
    /// The Service, and the route where one is asked for.
    ExposureReady,
    /// A pod that is on its way out does not come to its end. Absent or False when fine.
    DrainBlocked,
    /// A setting that works but should not stay. Absent or False when fine.
    ConfigurationWarning,
    /// By `operation.paused`. Absent or False otherwise.
    Paused,
}

impl ConditionType {
    /// All, in the order in which a status lists them.
    pub const ALL: [Self; 10] = [
        Self::Ready,
        Self::Available,
        Self::Progressing,
        Self::Degraded,
        Self::RedisReady,
        Self::SecretsReady,
        Self::ExposureReady,
        Self::DrainBlocked,
        Self::ConfigurationWarning,
        Self::Paused,
    ];

    /// As the API has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Degraded => "Degraded",
            Self::RedisReady => "RedisReady",
            Self::SecretsReady => "SecretsReady",
            Self::ExposureReady => "ExposureReady",
            Self::DrainBlocked => "DrainBlocked",
            Self::ConfigurationWarning => "ConfigurationWarning",
            Self::Paused => "Paused",
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])+ $name:ident,)+) => {
        /// Why a condition is what it is.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])+ $name,)+ }

        impl Reason {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// As the API has it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }
        }
    };
}

reasons! {
    /// All is as the spec has it.
    AsSpecified,
    /// Enough pods are ready.
    PodsReady,
    /// Too few pods are ready yet.
    PodsNotReady,
    /// No pod is ready.
    NoPodReady,
    /// A pod cannot start; the message says why.
    PodFailing,
    /// Pods of a new cluster are being made.
    Creating,
    /// The number of pods is changing.
    Scaling,
    /// New pods take the place of old ones, which hand their sessions over one after another.
    RollingOut,
    /// The other pods have no room for the sessions of the pod that should go next; it goes when they have.
    CapacityHeld,
    /// The pods of a new revision did not become ready in time; the revision before serves again.
    RolledBack,
    /// The pods of a new revision did not become ready in time; it stays where it is.
    ProgressDeadlineExceeded,
    /// A pod is being deleted for longer than it was given; its machine may be lost.
    PodStuck,
    /// A drain took longer than its deadline; the pod was deleted with what was left on it.
    DrainDeadlineExceeded,
    /// The spec cannot be carried out; the message names field and remedy.
    InvalidSpec,
    /// A Secret that is referred to is not there.
    SecretNotFound,
    /// A Secret is there without the key that is named.
    SecretKeyNotFound,
    /// A Secret's key holds what cannot be used.
    SecretInvalid,
    /// Every Secret is there.
    SecretsFound,
    /// Redis is configured.
    Configured,
    /// The embedded Redis is ready.
    EmbeddedReady,
    /// The embedded Redis is not ready yet.
    EmbeddedNotReady,
    /// Clients can come in.
    Exposed,
    /// The Gateway API is not installed.
    GatewayApiNotInstalled,
    /// The route is not accepted yet.
    RouteNotAccepted,
    /// The load balancer has no address yet.
    AddressPending,
    /// An object of that name belongs to somebody else.
    ForeignObject,
    /// Another field manager holds a field that is needed; the message names both.
    FieldConflict,
    /// The operator may not do it; the message names verb and resource.
    Forbidden,
    /// A call of the API failed; it is tried again.
    ApiError,
    /// The installed CRD is older than the operator and dropped fields; the message names them.
    CrdOutdated,
    /// For development only: the embedded Redis.
    EmbeddedRedis,
    /// For development only: the built-in provider.
    SimulatedProvider,
    /// Redis is spoken to without TLS.
    RedisWithoutTls,
    /// The image is named by a tag, which may move.
    ImageByTag,
    /// Keys cannot be exchanged: a key of before is there that no exchange has put there.
    KeyRotationHeld,
    /// More than one warning; the message lists them.
    SeveralWarnings,
    /// `operation.paused` is set.
    PausedBySpec,
    /// `operation.hibernated` is set.
    HibernatedBySpec,
    /// Nothing to say.
    Fine,
}
