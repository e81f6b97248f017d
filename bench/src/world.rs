//! A world of `auspex dev`, driven through the binary as people drive it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, ensure};
use serde_json::Value;

/// A running world; it is stopped when this is dropped.
#[derive(Debug)]
pub(crate) struct World {
    process: Child,
    program: PathBuf,
    file: String,
    offer: String,
}

impl World {
    pub(crate) fn start(directory: &Path) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("find this program")?;
        let program = own.with_file_name("auspex");
        ensure!(
            program.exists(),
            "{} is missing; run `cargo build --workspace`",
            program.display()
        );
        let mut process = Command::new(&program)
            .args(["--json", "dev", "--directory"])
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("start auspex dev")?;
        let stdout = process.stdout.take().context("read from auspex dev")?;
        let mut documents = serde_json::Deserializer::from_reader(stdout).into_iter::<Value>();
        let announcement = documents.next().context("the world did not start")??;
        let text = |name: &str| {
            let value = announcement[name].as_str();
            value.map(str::to_owned).with_context(|| format!("the world does not name its {name}"))
        };
        Ok(Self { process, program, file: text("worldFile")?, offer: text("nativeOffer")? })
    }

    /// Submits a request and gives back its id.
    pub(crate) fn submit(&self, question: &str) -> anyhow::Result<String> {
        let arguments =
            ["request", "submit", "--offer", &self.offer, "--input", question, "--as", "requester"];
        let submission = self.run(&arguments)?;
        Ok(submission["requestId"].as_str().context("a request has an id")?.to_owned())
    }

    /// Waits until a request is settled and its answer is readable.
    pub(crate) fn settled(&self, request: &str) -> anyhow::Result<()> {
        let view = self.run(&["request", "watch", request, "--timeout", "120"])?;
        ensure!(view["status"] == "settled", "request {request} ended as {}", view["status"]);
        Ok(())
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = Command::new(&self.program)
            .arg("--json")
            .args(arguments)
            .env("AUSPEX_WORLD", &self.file)
            .output()
            .context("run auspex")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "auspex {}: {error}", arguments.join(" "));
        serde_json::from_slice(&output.stdout).context("read what auspex printed")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let pid = self.process.id().to_string();
        // SIGTERM lets the world stop its parts in order; a world that is gone needs none.
        let _ = Command::new("kill").arg(pid).status();
        let _ = self.process.wait();
    }
}
