//! `kubectl` as an administrator runs it, for whole files of YAML.

use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::access::Access;
use crate::cluster::Cluster;

impl Cluster {
    /// Runs `kubectl` with `input`; standard output, or what it complained about.
    ///
    /// # Errors
    /// With its standard error when it ends with another status than 0.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        self.kubectl_as(self.administrator(), arguments, input)
    }

    /// The same with somebody else's access, or in another namespace. Unlike `--namespace` that lets a file name other
    /// namespaces.
    ///
    /// # Errors
    /// With its standard error when it ends with another status than 0.
    ///
    /// # Panics
    /// When it cannot be run.
    pub fn kubectl_as(&self, access: &Access, arguments: &[&str], input: &str) -> Result<String, String> {
        let kubeconfig = tempfile::NamedTempFile::new_in(self.folder().path()).unwrap();
        access.write_kubeconfig(kubeconfig.path());
        let mut command = Command::new(self.tools().binary("kubectl"));
        command.args(arguments).env("KUBECONFIG", kubeconfig.path());
        command.env("KUBECACHEDIR", self.folder().file("kubectl-cache"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("its input is a pipe");
        let input = input.to_owned();
        // Beside the reading of its output: either pipe may fill up first.
        let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
        let output = child.wait_with_output().unwrap();
        // It may have ended before it read everything; its status tells.
        drop(writer.join().expect("the writer does not panic"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Creates or changes every object of a YAML text.
    ///
    /// # Panics
    /// When one is refused.
    pub fn apply(&self, yaml: &str) {
        let applied = self.kubectl(&["apply", "--server-side", "--force-conflicts", "--filename", "-"], yaml);
        applied.unwrap_or_else(|error| panic!("kubectl apply: {error}"));
    }

    /// Installs bundles of definitions, by the names that `tests/kubernetes-tools.sh` gives them; returns when they serve.
    ///
    /// # Panics
    /// When one is refused, or does not serve.
    pub fn install(&self, bundles: &[&str]) {
        let files: Vec<_> = bundles.iter().map(|name| self.tools().definitions(name).display().to_string()).collect();
        let with_files = |verb: &[&str]| {
            let mut arguments: Vec<&str> = verb.to_vec();
            arguments.extend(files.iter().flat_map(|file| ["--filename", file.as_str()]));
            self.kubectl(&arguments, "").unwrap_or_else(|error| panic!("kubectl {}: {error}", verb.join(" ")));
        };
        with_files(&["apply", "--server-side", "--force-conflicts", "--validate=false"]);
        with_files(&["wait", "--for=condition=Established", "--timeout=60s"]);
    }
}
