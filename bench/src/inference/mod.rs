//! Measures the encoder beside ONNX Runtime, in turns in one run, and beside what the machine can do at most.

pub(crate) mod first;
mod machine;
mod peer;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use auspex_inference::{DeviceChoice, Encoder, Profile};

use self::machine::{read_bandwidth, sgemm_size};
use self::peer::{Model, Peer};
use crate::report::{Report, Row, median};

/// Largest difference of a component between the two in f32, so that both have run the same model.
const DIFFERENCE_MAX: f64 = 1e-4;

/// Fresh processes whose first request is measured.
const FIRST_REQUESTS: usize = 5;

/// Longest first request after a model is ready.
const FIRST_REQUEST_MS_MAX: f64 = 100.0;

/// Between turns, so that the threads of the one that ran before have stopped spinning.
const PAUSE: Duration = Duration::from_millis(100);

/// Measure the encoder. `bench/peers/onnx/install` provides the peer.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// all-MiniLM-L6-v2, as `auspex setup` installs it.
    #[arg(long)]
    model: PathBuf,
    /// Python of the peer's virtual environment.
    #[arg(long, default_value = "target/bench/onnx/bin/python")]
    python: PathBuf,
    /// How often each side has its turn.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
}

/// One shape in one precision, with what was measured of it.
struct Case {
    name: &'static str,
    model: Model,
    sequences: Vec<Vec<u32>>,
    /// Runs of one turn; the first only fills the caches and is not counted.
    runs: usize,
    /// Least ratio to the peer.
    bar: f64,
    own_s: Vec<f64>,
    peer_s: Vec<f64>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let load = |profile| Encoder::load_profile(&arguments.model, DeviceChoice::Cpu, profile);
    let plain = load(Profile::DeterministicCpu).context("load the model")?;
    let integers = load(Profile::DeterministicInt8).context("load the model")?;
    let mut peer = Peer::start(&arguments.python, &arguments.model)?;
    let mut cases = [
        Case::new("MiniLM f32, 16 x 128 tokens", Model::F32, 16, 128, 2, 1.1),
        Case::new("MiniLM f32, 1 x 16 tokens", Model::F32, 1, 16, 12, 1.0),
        Case::new("MiniLM int8, 16 x 128 tokens", Model::Int8, 16, 128, 2, 1.2),
    ];
    let mut sgemm = Vec::new();
    let mut bandwidth = Vec::new();
    let mut first_ms = Vec::new();
    for _ in 0..arguments.rounds {
        for case in &mut cases {
            let encoder = match case.model {
                Model::F32 => &plain,
                Model::Int8 => &integers,
            };
            case.turn(encoder, &mut peer)?;
        }
        sgemm.push(peer.sgemm(sgemm_size())?);
        std::thread::sleep(PAUSE);
        bandwidth.push(read_bandwidth());
        if first_ms.len() < FIRST_REQUESTS {
            first_ms.push(first::measure(&arguments.model)?);
        }
    }

    let mut rows: Vec<Row> = cases.iter().map(|case| case.row(&peer)).collect();
    let peak = median(&sgemm);
    let own = cases[0].gflop() / median(&cases[0].own_s);
    let name = "first request after ready, fresh process";
    rows.push(Row::with_bar(name, median(&first_ms), "ms", FIRST_REQUEST_MS_MAX));
    rows.push(Row::plain("machine: sgemm (OpenBLAS)", peak, "GFLOP/s"));
    rows.push(Row::plain("MiniLM f32, 16 x 128: share of sgemm", 100.0 * own / peak, "%"));
    rows.push(Row::plain("machine: reading memory", median(&bandwidth), "GB/s"));
    let report = Report::new(rows);
    report.write("inference").context("write the report")?;
    report.print()
}

impl Case {
    fn new(
        name: &'static str,
        model: Model,
        count: usize,
        length: usize,
        runs: usize,
        bar: f64,
    ) -> Self {
        // Ids of whole words; what they mean makes no difference to the time.
        let word = |index: usize| 2_000 + (index * 7_919) % 20_000;
        let sequence = |index: usize| {
            let words = (1..length - 1).map(|position| word(index * length + position) as u32);
            [101].into_iter().chain(words).chain([102]).collect()
        };
        let sequences = (0..count).map(sequence).collect();
        Self { name, model, sequences, runs, bar, own_s: Vec::new(), peer_s: Vec::new() }
    }

    fn turn(&mut self, encoder: &Encoder, peer: &mut Peer) -> anyhow::Result<()> {
        let mut own = Vec::new();
        for run in 0..self.runs {
            let started = Instant::now();
            own = encoder.embed_ids(&self.sequences).context("run the encoder")?;
            if run != 0 {
                self.own_s.push(started.elapsed().as_secs_f64());
            }
        }
        std::thread::sleep(PAUSE);
        for run in 0..self.runs {
            let answer = peer.encode(self.model, &self.sequences)?;
            if run != 0 {
                self.peer_s.push(answer.seconds);
            }
            if self.model == Model::F32 {
                let pairs = own.iter().flatten().zip(answer.vectors.iter().flatten());
                let largest =
                    pairs.map(|(own, peer)| (f64::from(*own) - peer).abs()).fold(0.0, f64::max);
                ensure!(largest <= DIFFERENCE_MAX, "{}: off by {largest:e}", self.name);
            }
        }
        std::thread::sleep(PAUSE);
        Ok(())
    }

    fn tokens(&self) -> f64 {
        self.sequences.iter().map(Vec::len).sum::<usize>() as f64
    }

    /// Operations of the matrix products: two for each of 10,616,832 weights and token, and 9,216 for
    /// each pair of tokens of a sequence.
    fn gflop(&self) -> f64 {
        let flop = |length: f64| length * (2.0 * 10_616_832.0 + 9_216.0 * length);
        self.sequences.iter().map(|sequence| flop(sequence.len() as f64)).sum::<f64>() / 1e9
    }

    fn row(&self, peer: &Peer) -> Row {
        let (own, other) = (median(&self.own_s), median(&self.peer_s));
        let (value, peer_value, unit) = if self.sequences.len() == 1 {
            (own * 1e3, other * 1e3, "ms")
        } else {
            (self.tokens() / own, self.tokens() / other, "tokens/s")
        };
        let peer = format!("{} with {peer_value:.2} {unit}", peer.version);
        Row::beside_peer(self.name, value, unit, peer, other / own, self.bar)
    }
}
