//! One child process and its leash. The child is ended by its own pid when this is dropped; should the test process end
//! without dropping (a static, a signal), the leash sees its pipe close and ends the child instead.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{OnceLock, mpsc};

/// Lines of a log that a failed test prints.
const LAST_LINES: usize = 40;

/// A running child.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    leash: Child,
}

impl Process {
    /// Starts `program`; what it prints goes to `folder/name.log`.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start(folder: &Path, name: &str, program: &Path, arguments: &[impl AsRef<OsStr>]) -> Self {
        let log = folder.join(format!("{name}.log"));
        let file = File::options().create(true).append(true).open(&log).unwrap();
        let mut command = Command::new(program);
        command.args(arguments).current_dir(folder).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let child = spawn(command).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut leash = Command::new("sh");
        leash.args(["-c", "read _; kill -KILL \"$0\" 2>/dev/null", &child.id().to_string()]);
        let leash = leash.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { name: name.to_owned(), log, child, leash: leash.expect("sh for the leash") }
    }

    /// Everything printed so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its pid.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, when it did.
    ///
    /// # Panics
    /// When the system cannot say.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().unwrap()
    }

    /// The end of its log, on stderr.
    pub fn dump(&self) {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let from = lines.len().saturating_sub(LAST_LINES);
        eprintln!("---- {} (last {LAST_LINES} lines of its log)", self.name);
        for line in lines.get(from..).unwrap_or_default() {
            eprintln!("{line}");
        }
    }
}

/// Spawns from a thread that lives as long as this process: Envoy asks the kernel for SIGTERM at the end of the thread that
/// started it, and a test's thread ends long before a shared stack should.
fn spawn(command: Command) -> std::io::Result<Child> {
    type Asked = (Command, mpsc::Sender<std::io::Result<Child>>);
    static SPAWNER: OnceLock<mpsc::Sender<Asked>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (asked, asking) = mpsc::channel::<Asked>();
        std::thread::spawn(move || {
            for (mut command, reply) in asking {
                reply.send(command.spawn()).expect("who asks waits for the reply");
            }
        });
        asked
    });
    let (reply, replied) = mpsc::channel();
    spawner.send((command, reply)).expect("the spawner lives");
    replied.recv().expect("the spawner replies")
}

impl Drop for Process {
    fn drop(&mut self) {
        // The leash first: afterwards the pid may belong to somebody else.
        for child in [&mut self.leash, &mut self.child] {
            if let Err(error) = child.kill().and_then(|()| child.wait()) {
                eprintln!("{}: cannot be ended: {error}", self.name);
            }
        }
        if std::thread::panicking() {
            self.dump();
        }
    }
}
