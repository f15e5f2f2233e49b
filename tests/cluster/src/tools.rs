//! Where the built parts of Kubernetes are: the folder in `KUBE_TOOLS`, as `tests/kubernetes-tools.sh` lays it out.

use std::path::PathBuf;

/// The folder.
#[derive(Clone, Debug)]
pub struct Tools(PathBuf);

impl Tools {
    /// The folder with at least `needed` in it; `None`, said loudly, when it is missing.
    ///
    /// # Panics
    /// When it is missing and `CI=true` or `E2E_REQUIRED=1`.
    #[must_use]
    pub fn find(needed: &[&str]) -> Option<Self> {
        match Self::look(needed) {
            Ok(found) => Some(found),
            Err(missing) => {
                let set = |name: &str, value: &str| std::env::var(name).is_ok_and(|found| found == value);
                assert!(!set("CI", "true") && !set("E2E_REQUIRED", "1"), "KUBERNETES TESTS CANNOT RUN: {missing}");
                eprintln!("\nNOT RUN: Kubernetes tests: {missing}\n");
                None
            }
        }
    }

    fn look(needed: &[&str]) -> Result<Self, String> {
        let asked = std::env::var_os("KUBE_TOOLS").filter(|value| !value.is_empty());
        let asked = asked.ok_or("KUBE_TOOLS is not set; tests/kubernetes-tools.sh prints it")?;
        let found = Self(std::path::absolute(asked).map_err(|error| error.to_string())?);
        for tool in needed {
            let path = found.binary(tool);
            if !path.is_file() {
                return Err(format!("{} is missing; see tests/kubernetes-tools.sh", path.display()));
            }
        }
        Ok(found)
    }

    /// One of its programs.
    #[must_use]
    pub fn binary(&self, name: &str) -> PathBuf {
        self.0.join("bin").join(name)
    }

    /// A file with custom resource definitions, by the name that the script gives it.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn definitions(&self, name: &str) -> PathBuf {
        let path = self.0.join("crds").join(format!("{name}.yaml"));
        assert!(path.is_file(), "{} is missing; see tests/kubernetes-tools.sh", path.display());
        path
    }
}
