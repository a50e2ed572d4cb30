//! Traces that continue the client's: `traceparent` of its calls in, OTLP out.
//!
//! Nothing is exported unless the environment names a collector, in OpenTelemetry's own variables
//! (<https://opentelemetry.io/docs/specs/otel/protocol/exporter/>).

mod secure;

use std::path::PathBuf;
use std::time::Duration;

use http::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider};
use tracing_opentelemetry::{OpenTelemetryLayer, OpenTelemetrySpanExt};
use tracing_subscriber::registry::LookupSpan;

use crate::resolve;
use crate::rpc::BoxError;

/// What every span of ours is under.
const NAME: &str = "buildgate";
/// How long spans that are left may take to go out at the end.
const GOODBYE: Duration = Duration::from_secs(3);

/// Variables that name the authorities of a collector.
const CERTIFICATES: [&str; 2] =
    ["OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE"];

/// Where traces go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Export {
    /// Nowhere.
    Off,
    /// To a collector, by OTLP over gRPC.
    Otlp(Collector),
}

/// A collector of traces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// `http://` or, with TLS, `https://`.
    pub endpoint: String,
    /// Authorities that are trusted besides the system's, PEM.
    pub ca_file: Option<PathBuf>,
}

/// Traces that cannot be exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The collector would be asked in another way than by gRPC, or as a client with a certificate.
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
    /// TLS to it cannot be set up.
    #[error("traces cannot be exported: {variable}: {source}")]
    Certificates {
        /// Where its authorities are named.
        variable: &'static str,
        /// Why.
        source: resolve::TlsError,
    },
    /// The endpoint is none.
    #[error("traces cannot be exported to {endpoint}: {source}")]
    Endpoint {
        /// The collector.
        endpoint: String,
        /// Why.
        source: BoxError,
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
        const CLIENT: [&str; 4] = [
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
            "OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
        ];
        let set = |name: &'static str| {
            variable(name).filter(|value| !value.is_empty()).map(|value| (name, value))
        };
        let off = set("OTEL_SDK_DISABLED").is_some_and(|(_, it)| it.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|(_, it)| it == "none");
        let Some((name, endpoint)) = ENDPOINTS.into_iter().find_map(set).filter(|_| !off) else {
            return Ok(Self::Off);
        };
        let unsupported = |variable, value, why| TraceError::Unsupported { variable, value, why };
        if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            let why = "a collector is reached by http:// or https:// (gRPC)";
            return Err(unsupported(name, crate::source::mask(&endpoint), why));
        }
        if let Some((name, file)) = CLIENT.into_iter().find_map(set) {
            return Err(unsupported(
                name,
                file,
                "no certificate is shown to a collector from here",
            ));
        }
        let ca_file = CERTIFICATES.into_iter().find_map(set).map(|(_, file)| file.into());
        match PROTOCOLS.into_iter().find_map(set) {
            Some((name, protocol)) if protocol != "grpc" => {
                Err(unsupported(name, protocol, "only grpc is spoken here"))
            }
            Some(_) | None => Ok(Self::Otlp(Collector { endpoint, ca_file })),
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
    /// When the endpoint is none, or its authorities cannot be read.
    pub fn new(collector: &Collector) -> Result<Self, TraceError> {
        let Collector { endpoint, ca_file } = collector;
        let exporter = SpanExporter::builder().with_tonic();
        let exporter = if endpoint.starts_with("https://") {
            let tls = resolve::tls_client(ca_file.as_deref()).map_err(|source| {
                let [_, variable] = CERTIFICATES;
                TraceError::Certificates { variable, source }
            })?;
            let channel = secure::channel(endpoint, tls).map_err(|source| {
                TraceError::Endpoint { endpoint: crate::source::mask(endpoint), source }
            })?;
            exporter.with_channel(channel)
        } else {
            exporter.with_endpoint(endpoint)
        };
        let exporter = exporter.build().map_err(|source| TraceError::Exporter {
            endpoint: crate::source::mask(endpoint),
            source,
        })?;
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
        let to = |endpoint: &str, ca_file: Option<&str>| {
            let ca_file = ca_file.map(PathBuf::from);
            Ok(Export::Otlp(Collector { endpoint: endpoint.to_owned(), ca_file }))
        };
        let otlp = |endpoint: &str| to(endpoint, None);
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
        const S: &str = "https://collector.example:4317";
        check(&[(ALL, S)], otlp(S));
        check(&[(ALL, S), ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca")], to(S, Some("ca")));
        check(
            &[
                (ALL, S),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca"),
                ("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "ours"),
            ],
            to(S, Some("ours")),
        );
        check(
            &[(ALL, S), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key")],
            Err(
                "OTEL_EXPORTER_OTLP_CLIENT_KEY=key: no certificate is shown to a collector from here",
            ),
        );
        check(
            &[(ALL, "grpc://user:secret@collector")],
            Err("OTEL_EXPORTER_OTLP_ENDPOINT=grpc://***@collector: a collector is reached by \
                 http:// or https:// (gRPC)"),
        );
    }
}
