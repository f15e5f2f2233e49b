//! One worker: the built module, started and configured, whose callbacks a test calls in the host's place.

use wasmi::{Engine, Func, Instance, Linker, Memory, Module, Store, Val};

use crate::calls::{Host, call};

/// The root context.
pub const ROOT: i32 = 1;

/// The module, compiled once for any number of workers.
#[derive(Debug)]
pub struct Compiled {
    engine: Engine,
    module: Module,
}

impl Compiled {
    /// The module in `bytes`.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, bytes).unwrap();
        Self { engine, module }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Worker {
    store: Store<Host>,
    instance: Instance,
    memory: Memory,
}

impl Worker {
    /// Starts and configures one.
    ///
    /// # Panics
    /// When that fails.
    #[must_use]
    pub fn start(compiled: &Compiled, configuration: &str) -> Self {
        let Compiled { engine, module } = compiled;
        let size = i32::try_from(configuration.len()).unwrap();
        let mut store = Store::new(engine, Host::new(configuration));
        let mut linker = Linker::new(engine);
        for import in module.imports() {
            let kind = import.ty().func().expect("the filter imports functions only").clone();
            let name = import.name().to_owned();
            let func = Func::new(&mut store, kind, move |mut caller, arguments, results: &mut [Val]| {
                let status = call(&name, &mut caller, arguments);
                results.fill(Val::I32(status));
                Ok(())
            });
            linker.define(import.module(), import.name(), func).unwrap();
        }
        let instance = linker.instantiate_and_start(&mut store, module).unwrap();
        let memory = instance.get_memory(&store, "memory").unwrap();
        let mut worker = Self { store, instance, memory };
        worker.call("_initialize", &[]);
        worker.call("proxy_on_context_create", &[ROOT, 0]);
        assert_eq!(worker.call("proxy_on_configure", &[ROOT, size]), 1, "{:?}", worker.host().logs);
        worker
    }

    /// What the host keeps.
    pub fn host(&mut self) -> &mut Host {
        self.store.data_mut()
    }

    /// Calls an export; what it returns, 0 for nothing.
    ///
    /// # Panics
    /// When there is none of this name, or it traps.
    pub fn call(&mut self, name: &str, arguments: &[i32]) -> i32 {
        let func = self.instance.get_func(&self.store, name).unwrap_or_else(|| panic!("the module has no {name}"));
        let arguments: Vec<Val> = arguments.iter().copied().map(Val::I32).collect();
        let mut results = vec![Val::I32(0); func.ty(&self.store).results().len()];
        func.call(&mut self.store, &arguments, &mut results).unwrap_or_else(|error| panic!("{name}: {error}"));
        results.first().and_then(Val::i32).unwrap_or(0)
    }

    /// The control plane says something on the stream that is open.
    ///
    /// # Panics
    /// When it is too long.
    pub fn hear(&mut self, message: Vec<u8>) {
        let size = i32::try_from(message.len()).unwrap();
        let host = self.host();
        host.received = message;
        let token = host.streams.cast_signed();
        self.call("proxy_on_grpc_receive", &[ROOT, token, size]);
    }

    /// The size of its linear memory, bytes.
    ///
    /// # Panics
    /// Never on this machine.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        usize::try_from(self.memory.size(&self.store)).unwrap() * 65_536
    }
}
