//! ONNX Runtime in a Python process of its own, asked over standard input.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

/// The running peer; it ends when its standard input is closed.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    /// Name and version, as the report shows them.
    pub(crate) version: String,
}

/// Which of the peer's models runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Model {
    /// Fused operators in f32.
    F32,
    /// Weights and inputs of products as bytes, by `quantize_dynamic`.
    Int8,
}

/// One batch of the peer.
#[derive(Debug, Deserialize)]
pub(crate) struct Encoded {
    pub(crate) seconds: f64,
    pub(crate) vectors: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Started {
    version: String,
}

#[derive(Deserialize)]
struct Multiplied {
    seconds: f64,
}

impl Peer {
    pub(crate) fn start(python: &Path, model: &Path) -> anyhow::Result<Self> {
        ensure!(python.exists(), "{} is missing; run `make bench-inference`", python.display());
        let mut process = Command::new(python)
            .arg("bench/peers/onnx/peer.py")
            .arg(model)
            .arg("target/bench/onnx-models")
            // Old names of processors would choose slow kernels for the measure of the machine.
            .env_remove("OPENBLAS_CORETYPE")
            .env_remove("OPENBLAS_L2_SIZE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("start the peer")?;
        let questions = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("read from the peer")?);
        let mut peer = Self { process, questions, answers, version: String::new() };
        peer.version = peer.answer::<Started>()?.version;
        Ok(peer)
    }

    pub(crate) fn encode(&mut self, model: Model, ids: &[Vec<u32>]) -> anyhow::Result<Encoded> {
        let model = match model {
            Model::F32 => "f32",
            Model::Int8 => "int8",
        };
        self.ask(&json!({ "model": model, "ids": ids }))?;
        self.answer()
    }

    /// GFLOP/s of a product of two square matrices.
    pub(crate) fn sgemm(&mut self, size: usize) -> anyhow::Result<f64> {
        self.ask(&json!({ "sgemm": size }))?;
        let Multiplied { seconds } = self.answer()?;
        Ok(2.0 * (size as f64).powi(3) / seconds / 1e9)
    }

    fn ask(&mut self, question: &Value) -> anyhow::Result<()> {
        let pipe = self.questions.as_mut().context("ask the peer")?;
        writeln!(pipe, "{question}").context("ask the peer")
    }

    fn answer<T: for<'de> Deserialize<'de>>(&mut self) -> anyhow::Result<T> {
        let mut line = String::new();
        let length = self.answers.read_line(&mut line).context("read from the peer")?;
        ensure!(0 < length, "the peer has ended; its error is above");
        serde_json::from_str(&line).context("read the peer's answer")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.process.wait();
    }
}
