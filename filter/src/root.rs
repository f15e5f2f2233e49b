//! The root context: configuration, ticks, wake-ups and the control plane's stream, passed on to the VM.

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;

use crate::config::PluginConfig;
use crate::host::{self, Buffer, Level};
use crate::self_benchmark;
use crate::stream::Stream;
use crate::vm::{self, TICK_MS};

/// One configured instance of the plugin in this VM.
pub(crate) struct Root {
    context_id: u32,
    config: PluginConfig,
}

impl Root {
    pub(crate) fn new(context_id: u32) -> Self {
        Self { context_id, config: PluginConfig::default() }
    }
}

impl Context for Root {
    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        let Ok(message) = host::buffer(Buffer::GrpcMessage, 0, size) else { return };
        let now = vm::now();
        vm::with(|vm| {
            if vm.uplink.hear(token, &message, &mut vm.brain, &mut vm.table, now) {
                vm.siblings.wake();
            }
        });
    }

    fn on_grpc_stream_close(&mut self, token: u32, status: u32) {
        vm::with(|vm| vm.uplink.closed(token, status, vm::now()));
    }
}

impl RootContext for Root {
    fn on_configure(&mut self, size: usize) -> bool {
        let bytes = if size == 0 { Ok(Vec::new()) } else { host::buffer(Buffer::PluginConfiguration, 0, size) };
        match PluginConfig::parse(&bytes.unwrap_or_default()) {
            Ok(config) => self.config = config,
            Err(error) => {
                host::log(Level::Error, &format!("kvasir: plugin configuration: {error}"));
                return false;
            }
        }
        if let Err(error) = host::set_tick_period(TICK_MS) {
            host::log(Level::Error, &format!("kvasir: cannot tick: {error}"));
        }
        vm::with(|vm| vm.configure(self.config.clone(), vm::now()));
        host::log(Level::Info, &format!("kvasir: configured ({:?} mode)", self.config.mode));
        if let Some(size) = self.config.self_benchmark {
            let timings = self_benchmark::run(size, host::current_time);
            let timings = serde_json::to_string(&timings).unwrap_or_default();
            host::log(Level::Warn, &format!("kvasir: self_benchmark {timings}"));
        }
        true
    }

    fn on_tick(&mut self) {
        let now = vm::now();
        vm::with(|vm| vm.tick(now));
        crate::stream::rescue_held(now);
        crate::stream::resume_queued(now);
        if let Err(error) = host::set_effective_context(self.context_id) {
            host::log(Level::Error, &format!("kvasir: cannot return to the root context: {error}"));
        }
    }

    fn on_queue_ready(&mut self, queue: u32) {
        vm::with(|vm| vm.drain_queue(queue));
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }

    fn create_http_context(&self, context_id: u32) -> Option<Box<dyn HttpContext>> {
        Some(Box::new(Stream::new(context_id, &self.config)))
    }
}
