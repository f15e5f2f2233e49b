//! Flags of llm-d's endpoint picker that need nothing done here, each with the reason; and those that ask for something
//! that is not done, which are refused unless they ask for nothing.

use clap::Args;

use super::FlagError;

macro_rules! ignored {
    ($($field:ident: $flag:literal, $why:literal;)*) => {
        /// See the module. A switch without a value is an empty text.
        #[derive(Clone, Debug, Default, Args)]
        pub struct Ignored {
            $(#[doc = concat!("`--", $flag, "`: ", $why)]
            #[arg(long = $flag, hide = true, num_args = 0..=1, default_missing_value = "")]
            pub $field: Option<String>,)*
            /// `--tls-min-version`
            #[arg(long, hide = true)]
            pub tls_min_version: Option<String>,
            /// `--tls-cipher-suites`
            #[arg(long, hide = true)]
            pub tls_cipher_suites: Option<String>,
            /// `--metrics-client-ca-file`
            #[arg(long, hide = true)]
            pub metrics_client_ca_file: Option<String>,
            /// `--metrics-cert-dir`
            #[arg(long, hide = true)]
            pub metrics_cert_dir: Option<String>,
            /// `--model-server-metrics-scheme`
            #[arg(long, hide = true)]
            pub model_server_metrics_scheme: Option<String>,
            /// `--emit-endpoint-scores`
            #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
            pub emit_endpoint_scores: Option<String>,
        }

        impl Ignored {
            /// The flags that were given, and why nothing is done about them.
            #[must_use]
            pub fn given(&self) -> Vec<(&'static str, &'static str)> {
                let mut given = Vec::new();
                $(if self.$field.is_some() {
                    given.push(($flag, $why));
                })*
                given
            }
        }
    };
}

ignored! {
    refresh_prometheus_metrics_interval: "refresh-prometheus-metrics-interval", "metrics are computed when they are read";
    tracing: "tracing", "no traces are sent";
    health_checking: "health-checking", "health is always served";
    enable_pprof: "enable-pprof", "there is no Go runtime to profile";
    enable_cert_reload: "enable-cert-reload", "certificates are always read again when they change";
    enable_grpc_stream_metrics: "enable-grpc-stream-metrics", "streams are always counted";
    allow_experimental_plugins: "allow-experimental-plugins", "nothing is held back as experimental";
    metrics_endpoint_auth: "metrics-endpoint-auth", "metrics are served without authentication";
    grpc_max_recv_msg_size: "grpc-max-recv-msg-size", "a pool's body limit counts";
    grpc_max_send_msg_size: "grpc-max-send-msg-size", "messages are at most 64 KiB";
    zap_devel: "zap-devel", "logs are the same everywhere";
    zap_stacktrace_level: "zap-stacktrace-level", "errors carry no stack traces";
    zap_time_encoding: "zap-time-encoding", "times are always RFC 3339";
}

impl Ignored {
    /// Refuses what would be worse if it were ignored.
    pub(super) fn refuse(&self) -> Result<(), FlagError> {
        let not_done = [
            ("tls-cipher-suites", "the suites are fixed: leave it out", &self.tls_cipher_suites, &[""][..]),
            (
                "tls-min-version",
                "must be VersionTLS12, the oldest that is spoken",
                &self.tls_min_version,
                &["VersionTLS12"],
            ),
            (
                "metrics-client-ca-file",
                "metrics are served without TLS: leave it out",
                &self.metrics_client_ca_file,
                &[""],
            ),
            ("metrics-cert-dir", "metrics are served without TLS: leave it out", &self.metrics_cert_dir, &[""]),
            ("model-server-metrics-scheme", "must be http", &self.model_server_metrics_scheme, &["http"]),
            (
                "emit-endpoint-scores",
                "scores are not told to gateways: must be false",
                &self.emit_endpoint_scores,
                &["false"],
            ),
        ];
        for (flag, rule, value, harmless) in not_done {
            if let Some(value) = value.as_deref().filter(|value| !harmless.contains(value)) {
                return Err(FlagError::Refused { flag, rule, value: format!("{value:?}") });
            }
        }
        Ok(())
    }
}
