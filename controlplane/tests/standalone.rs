//! Supervision of Envoy, with a script in its place: it is started again when it dies and ends with us.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on must fail")]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use controlplane::standalone::drive::{Envoy, RunFolder};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

/// An "Envoy" that notes its pid and then does `rest`.
fn script(folder: &Path, rest: &str) -> Envoy {
    let binary = folder.join("envoy");
    let starts = folder.join("starts");
    let text = format!("#!/bin/sh\necho $$ >> {}\n{rest}\n", starts.display());
    // Written by another process: a child that some other test forks at this moment would inherit our open file, and
    // the system refuses to run a file that is open for writing.
    let mut writer = std::process::Command::new("sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(&binary)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut writer.stdin.take().unwrap(), text.as_bytes()).unwrap();
    assert!(writer.wait().unwrap().success());
    Envoy { binary, bootstrap: PathBuf::from("none"), admin_address: folder.join("admin"), workers: Some(1) }
}

async fn pids(folder: &Path, at_least: usize) -> Vec<String> {
    let polling = async {
        loop {
            let noted = std::fs::read_to_string(folder.join("starts")).unwrap_or_default();
            let pids: Vec<String> = noted.lines().map(str::to_owned).collect();
            if pids.len() >= at_least {
                return pids;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(DEADLINE, polling).await.expect("started often enough")
}

#[tokio::test]
async fn a_dead_envoy_is_started_again_and_the_living_one_ends_with_us() {
    let folder = RunFolder::create().unwrap();
    // The first run lives for longer than a start that failed, the second for ever.
    let rest = format!("[ $(wc -l < {}/starts) -ge 2 ] && exec sleep 1000; sleep 2.2; exit 3", folder.path().display());
    let envoy = script(folder.path(), &rest);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let supervising = tokio::spawn(async move { envoy.supervise(token).await });
    let pids = pids(folder.path(), 2).await;
    stop.cancel();
    tokio::time::timeout(DEADLINE, supervising).await.unwrap().unwrap().unwrap();
    assert_eq!(pids.len(), 2);
    assert!(!Path::new(&format!("/proc/{}", pids[1])).exists(), "the child is gone");
}

#[tokio::test]
async fn an_envoy_without_admin_interface_is_told_to_end_before_it_is_killed() {
    let folder = RunFolder::create().unwrap();
    let told = folder.path().join("told");
    let envoy =
        script(folder.path(), &format!("trap 'touch {}; exit 0' TERM; while :; do sleep 0.05; done", told.display()));
    let stop = CancellationToken::new();
    let token = stop.clone();
    let supervising = tokio::spawn(async move { envoy.supervise(token).await });
    pids(folder.path(), 1).await;
    stop.cancel();
    tokio::time::timeout(DEADLINE, supervising).await.unwrap().unwrap().unwrap();
    assert!(told.exists(), "it was killed outright");
}

#[tokio::test]
async fn an_envoy_that_ends_at_once_is_an_error_and_not_a_loop() {
    let folder = RunFolder::create().unwrap();
    let envoy = script(folder.path(), "exit 1");
    let supervised = tokio::time::timeout(DEADLINE, envoy.supervise(CancellationToken::new())).await.unwrap();
    assert!(supervised.unwrap_err().to_string().starts_with("envoy ended at once"));
    assert_eq!(pids(folder.path(), 1).await.len(), 1);
}

#[tokio::test]
async fn the_run_folder_is_private_and_goes_away() {
    let folder = RunFolder::create().unwrap();
    let path = folder.path().to_owned();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    drop(folder);
    assert!(!path.exists());
}
