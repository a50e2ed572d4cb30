//! Traces that continue the client's: `traceparent` of its calls in, OTLP out.
//!
//! Nothing is exported unless the environment names a collector, in OpenTelemetry's own variables
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

/// What every span of ours is under.
const NAME: &str = "buildgate";
/// How long spans that are left may take to go out at the end.
const GOODBYE: Duration = Duration::from_secs(3);

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// Nowhere.
    Off,
    /// To a collector, by OTLP over gRPC.
    Otlp(String),
}

/// Traces that cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The collector would be asked over TLS or HTTP/JSON.
    #[error("{variable}={value}: {why}")]
    Unsupported {
        /// The variable of the environment.
        variable: &'static str,
        /// What it says.
        value: String,
        /// What is accepted.
        why: &'static str,
    },
    /// The exporter cannot be made.
    #[error("traces cannot be exported to {endpoint}: {source}")]
    Exporter {
        /// The collector.
        endpoint: String,
        /// Why.
        source: ExporterBuildError,
    },
    /// Spans were lost at the end.
    #[error("the last traces were not exported: {0}")]
    Shutdown(#[source] OTelSdkError),
}

impl Export {
    /// As the environment has it; `variable` looks one up.
    ///
    /// # Errors
    /// When it asks for what cannot be done here, rather than to export nothing in silence.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, TraceError> {
        const ENDPOINTS: [&str; 2] =
            ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
        const PROTOCOLS: [&str; 2] =
            ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"];
        let set = |name: &'static str| {
            variable(name).filter(|value| !value.is_empty()).map(|value| (name, value))
        };
        let off = set("OTEL_SDK_DISABLED").is_some_and(|(_, it)| it.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|(_, it)| it == "none");
        let Some((name, endpoint)) = ENDPOINTS.into_iter().find_map(set).filter(|_| !off) else {
            return Ok(Self::Off);
        };
        let unsupported = |variable, value, why| TraceError::Unsupported { variable, value, why };
        if !endpoint.starts_with("http://") {
            let why = "a collector is reached by http:// (gRPC without TLS) from here; put one on \
                       this host or in this pod";
            return Err(unsupported(name, crate::source::mask(&endpoint), why));
        }
        match PROTOCOLS.into_iter().find_map(set) {
            Some((name, protocol)) if protocol != "grpc" => {
                Err(unsupported(name, protocol, "only grpc is spoken here"))
            }
            Some(_) | None => Ok(Self::Otlp(endpoint)),
        }
    }
}

/// Exports spans until it is ended.
#[derive(Clone, Debug)]
pub struct Exporter {
    provider: SdkTracerProvider,
}

impl Exporter {
    /// An exporter to a collector; connects when there is something to export. Needs a runtime.
    ///
    /// # Errors
    /// When the endpoint is none.
    pub fn new(endpoint: &str) -> Result<Self, TraceError> {
        let exporter = SpanExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .build()
            .map_err(|source| TraceError::Exporter { endpoint: endpoint.to_owned(), source })?;
        // OTEL_SERVICE_NAME wins over what is said here.
        let resource = Resource::builder().with_service_name(service_name()).build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource);
        Ok(Self { provider: provider.build() })
    }

    /// What brings `tracing`'s spans to it.
    pub fn layer<S>(&self) -> OpenTelemetryLayer<S, SdkTracer>
    where
        S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer().with_tracer(self.provider.tracer(NAME))
    }

    /// Sends what is left. Blocks; not for a thread of the runtime.
    ///
    /// # Errors
    /// When the collector did not take it in time.
    pub fn end(&self) -> Result<(), TraceError> {
        self.provider.shutdown_with_timeout(GOODBYE).map_err(TraceError::Shutdown)
    }
}

fn service_name() -> String {
    std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| NAME.to_owned())
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

/// A span for a call of a client: a child of the client's, where its metadata has one
/// (`traceparent`, <https://www.w3.org/TR/trace-context/>).
pub fn span(headers: &HeaderMap, method: &str) -> tracing::Span {
    let span = tracing::info_span!(
        target: "buildgate.call",
        "call",
        otel.name = method,
        otel.kind = "server",
        rpc.system = "grpc",
    );
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    if parent.span().span_context().is_valid() {
        // Without an exporter there is nothing that a parent could be given to.
        let _ = span.set_parent(parent);
    }
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], wanted: Result<Export, &str>) {
        let look = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        let got = Export::from_env(look).map_err(|error| error.to_string());
        assert_eq!(got, wanted.map_err(str::to_owned), "{variables:?}");
    }

    #[test]
    fn the_environment_says_where_traces_go() {
        const ALL: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
        const OURS: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
        const A: &str = "http://127.0.0.1:4317";
        let otlp = |endpoint: &str| Ok(Export::Otlp(endpoint.to_owned()));
        check(&[], Ok(Export::Off));
        check(&[(ALL, "")], Ok(Export::Off));
        check(&[(ALL, A)], otlp(A));
        check(&[(ALL, "http://b:1"), (OURS, A)], otlp(A));
        check(&[(ALL, A), ("OTEL_SDK_DISABLED", "true")], Ok(Export::Off));
        check(&[(ALL, A), ("OTEL_TRACES_EXPORTER", "none")], Ok(Export::Off));
        check(&[(ALL, A), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], otlp(A));
        check(
            &[(ALL, A), ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
            Err("OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf: only grpc is spoken here"),
        );
        check(
            &[(ALL, "https://user:secret@collector")],
            Err("OTEL_EXPORTER_OTLP_ENDPOINT=https://***@collector: a collector is reached by \
                 http:// (gRPC without TLS) from here; put one on this host or in this pod"),
        );
    }
}
