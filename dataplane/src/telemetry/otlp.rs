//! Spans on their way to a collector: OTLP over HTTP, from a thread of its own, over a bounded queue.
//!
//! The standard variables are honoured (`OTEL_EXPORTER_OTLP_*`, `OTEL_BSP_*`, `OTEL_TRACES_SAMPLER`,
//! `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_SERVICE_NAME`, `OTEL_SDK_DISABLED`). A collector that is slow or
//! away costs spans: a full queue drops them, and nothing waits for it but [`Exporting::end`], which
//! has a bound.

use crate::config::secrets::Environment;
use crate::metrics::Exports;
use crate::node::Node;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry::{Key, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter as OtlpExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What whoever looks at the traces calls this service, unless `OTEL_SERVICE_NAME` says otherwise.
const SERVICE: &str = "chatcluster-dataplane";
/// Where a collector takes traces, below its address.
const TRACES: &str = "/v1/traces";
/// Either of these turns traces on, whatever the settings say.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The exporter reads it from the environment.
    OfEnvironment,
    /// The collector's address in the settings, for example `http://collector:4318`.
    OfSettings(String),
}

impl Endpoint {
    /// `None`: there are no traces. The environment goes before the settings.
    pub fn find(settings: Option<&str>, environment: Environment<'_>) -> Option<Self> {
        let given = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
        let disabled = environment("OTEL_SDK_DISABLED")
            .is_some_and(|value| value.to_string_lossy().eq_ignore_ascii_case("true"));
        match settings {
            _ if disabled => None,
            _ if ENDPOINTS.into_iter().any(given) => Some(Self::OfEnvironment),
            settings => settings.map(|address| Self::OfSettings(address.to_owned())),
        }
    }
}

/// A node whose spans are sent.
pub struct Exporting(SdkTracerProvider);

impl Exporting {
    /// Begins to record and send the node's spans.
    ///
    /// # Errors
    /// A text for people, where the address or another variable cannot be used.
    pub fn start(node: &Node, endpoint: &Endpoint) -> Result<Self, String> {
        let exporter = OtlpExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
        let exporter = match endpoint {
            Endpoint::OfEnvironment => exporter,
            Endpoint::OfSettings(address) => {
                exporter.with_endpoint(format!("{}{TRACES}", address.trim_end_matches('/')))
            }
        };
        let exporter = exporter.build().map_err(|error| format!("traces: {error}"))?;
        let exporter = Watched {
            exporter,
            exports: node.metrics.trace_exports(),
            failing: AtomicBool::new(false),
        };
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource(node))
            .build();
        node.telemetry.spans.record(provider.tracer("chatcluster"));
        Ok(Self(provider))
    }

    /// Sends what is left, and waits no longer than this for it. Blocks its thread.
    pub fn end(self, within: Duration) {
        if let Err(error) = self.0.shutdown_with_timeout(within) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

fn resource(node: &Node) -> Resource {
    let attributes = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", node.owner.incarnation.to_string()),
        KeyValue::new("chatcluster.node", node.owner.node.to_string()),
    ];
    // The builder reads the environment; what stands there goes before our own name.
    let given = Resource::builder().build().get(&Key::from_static_str("service.name"));
    let resource = Resource::builder().with_attributes(attributes);
    match given {
        Some(name) if !name.as_str().starts_with("unknown_service") => resource.build(),
        _ => resource.with_service_name(SERVICE).build(),
    }
}

/// Says once that the collector cannot be reached, and once that it can again; counts both.
#[derive(Debug)]
struct Watched {
    exporter: OtlpExporter,
    exports: Exports,
    failing: AtomicBool,
}

impl SpanExporter for Watched {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let sent = self.exporter.export(batch).await;
        let failed = sent.is_err();
        if failed {
            self.exports.failed.inc()
        } else {
            self.exports.ok.inc()
        };
        match (&sent, self.failing.swap(failed, Ordering::Relaxed)) {
            (Err(error), false) => tracing::warn!(%error, "spans are not taken; they are dropped"),
            (Ok(()), true) => tracing::info!("spans are taken again"),
            _ => {}
        }
        sent
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn shutdown(&self) -> OTelSdkResult {
        self.exporter.shutdown()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsString;

    #[test]
    fn traces_are_on_where_an_address_is_given_and_not_switched_off() {
        let find = |settings, variables: &[(&str, &str)]| {
            Endpoint::find(settings, &|name| {
                let found = variables.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| OsString::from(value))
            })
        };
        let address = "http://collector:4318";
        let of_settings = Some(Endpoint::OfSettings(address.to_owned()));
        assert_eq!(find(None, &[]), None);
        assert_eq!(find(Some(address), &[]), of_settings);
        assert_eq!(find(Some(address), &[(ENDPOINTS[1], "")]), of_settings);
        for variable in ENDPOINTS {
            let given = (variable, "http://other:4318");
            assert_eq!(find(Some(address), &[given]), Some(Endpoint::OfEnvironment));
            assert_eq!(find(None, &[given]), Some(Endpoint::OfEnvironment));
            assert_eq!(find(Some(address), &[given, ("OTEL_SDK_DISABLED", "TRUE")]), None);
        }
    }
}
