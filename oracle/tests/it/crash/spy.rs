//! Another process of the signer's user, which looks into the signer's memory. Root may look everywhere, so both are run as
//! somebody else when the tests run as root.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use alloy::primitives::{Address, B256};
use auspex_devnet::user::User;
use auspex_oracle::keys::file::write_secret;
use auspex_oracle::keys::keystore::{Strength, import};
use auspex_protocol::deployment::Deployment;
use nix::unistd::{Gid, Uid, chown};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::memory;
use super::process::{ROLE, Role, played};

const TEST: &str = "crash::spy::another_process_of_the_same_user_cannot_read_the_signers_memory";
const PASSWORD: &str = "correct-CANARY-spy";

/// Stands in the memory of a process that protects nothing.
const NEEDLE: &str = "CANARY-in-an-open-process";

/// Whom a process spies upon: one that it starts, because some kernels let a process read only what descends from it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spying {
    victim: Box<Role>,
    /// A file that is there once the victim is at work.
    ready: PathBuf,
    /// Where to write what was found.
    report: PathBuf,
}

/// What opening a process's memory came to.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Found {
    Refused,
    Needle,
    NoNeedle,
}

/// A process that keeps a word in its memory, as any process does.
pub(super) fn stay_open(ready: &Path) -> ! {
    let kept = NEEDLE.to_owned();
    std::fs::write(ready, []).expect("written");
    loop {
        std::thread::park();
        std::hint::black_box(&kept);
    }
}

impl Spying {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let victim = Victim(role(&self.victim).spawn()?);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.ready.exists() {
            anyhow::ensure!(Instant::now() < deadline, "{} does not come", self.ready.display());
            std::thread::sleep(Duration::from_millis(20));
        }
        let process = victim.0.id();
        let found = match File::open(format!("/proc/{process}/mem")) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Found::Refused,
            Err(error) => return Err(error.into()),
            Ok(_) if memory::holds(process, NEEDLE.as_bytes()) => Found::Needle,
            Ok(_) => Found::NoNeedle,
        };
        std::fs::write(&self.report, serde_json::to_vec(&found)?)?;
        Ok(())
    }
}

struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// This program in a role. It is found by whoever runs it, whichever folders are closed to them.
fn role(role: &Role) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["--exact", TEST, "--nocapture"])
        .env(ROLE, serde_json::to_string(role).expect("JSON"))
        .stdin(Stdio::null());
    command
}

#[test]
fn another_process_of_the_same_user_cannot_read_the_signers_memory() {
    if played() {
        return;
    }
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let option = |name: &str, file: &str| format!("--{name}={}", path(file).display());
    let words = SecretString::from(PASSWORD);
    write_secret(&path("password"), PASSWORD.as_bytes()).expect("a password");
    for (name, byte) in [("signer", 1), ("transmitter", 2)] {
        import(&path(name), &B256::repeat_byte(byte).0, &words, Strength::Light).expect("a key");
    }
    let deployment = Deployment {
        chain_id: 31337,
        start_block: 0,
        agent_registry: Address::repeat_byte(1),
        operator_registry: Address::repeat_byte(2),
        entry_policy: Address::repeat_byte(3),
        request_escrow: Address::repeat_byte(4),
        platform_token: None,
        reputation_registry: None,
        validation_registry: None,
    };
    let text = serde_json::to_vec(&deployment).expect("JSON");
    std::fs::write(path("deployment.json"), text).expect("written");

    let user = User::for_server(None).expect("somebody who is not root");
    if let Some(user) = &user {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        for name in ["", "password", "signer", "transmitter", "deployment.json"] {
            chown(&path(name), Some(uid), Some(gid)).expect("given away");
        }
    }
    let found = |victim: Role, ready: &str| -> Found {
        let report = path(&format!("{ready}.report"));
        let spying =
            Spying { victim: Box::new(victim), ready: path(ready), report: report.clone() };
        let mut command = role(&Role::Spy(spying));
        if let Some(user) = &user {
            command.uid(user.uid).gid(user.gid);
        }
        let output = command.output().expect("a spy");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {said}", output.status);
        serde_json::from_slice(&std::fs::read(report).expect("a report")).expect("JSON")
    };
    // A process that does not protect itself can be read, so that a refusal is the signer's own doing.
    assert_eq!(found(Role::Open(path("open")), "open"), Found::Needle);
    let arguments = vec![
        "signer".to_owned(),
        option("signer-keystore", "signer"),
        option("signer-password-file", "password"),
        option("transmitter-keystore", "transmitter"),
        option("transmitter-password-file", "password"),
        option("socket", "socket"),
        option("log", "log"),
    ];
    let signer = Role::Signer { arguments, deployment: path("deployment.json") };
    assert_eq!(found(signer, "socket"), Found::Refused);
}
