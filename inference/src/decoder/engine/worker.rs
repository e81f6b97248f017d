//! The thread that owns the model: passes over all sequences in work, one after the other.

use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, mpsc::SyncSender},
    time::Instant,
};

use tokio::sync::mpsc;

use super::{
    super::{
        limits::{BLOCK_TOKENS, PASS_TOKENS_MAX, SEQUENCES_MAX},
        loaded::{Facts, load, self_test},
        model::Span,
        network::{Network, Reader},
    },
    GenerateError, Options, StartError,
    pool::Pool,
    sequence::{Request, Sequence},
};
use crate::team::Team;

/// Loads and checks the model, says so on `ready`, and works until the last handle is gone.
pub(super) fn run(
    dir: &Path,
    options: &Options,
    ready: &SyncSender<Result<Arc<Facts>, StartError>>,
    receiver: mpsc::Receiver<Request>,
) {
    let started = Instant::now();
    let device = options.device;
    let loaded = catch_unwind(AssertUnwindSafe(|| prepare(dir, options)));
    // burn's queue panics where a device has no memory left.
    let loaded = loaded.unwrap_or_else(|panic| {
        Err(StartError::Device { device, reason: message(&*panic).to_owned() })
    });
    let (worker, team) = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            // The channel has room for this one message, and the starter is waiting for it.
            let _ = ready.send(Err(error));
            return;
        }
    };
    let facts = &worker.facts;
    tracing::info!(
        device = %facts.device,
        profile = facts.profile,
        model_hash = hex::encode(facts.model_hash),
        weight_bytes = facts.weight_bytes,
        elapsed_ms = started.elapsed().as_millis() as u64,
        "decoder ready"
    );
    let _ = ready.send(Ok(Arc::clone(facts)));
    worker.work(receiver, team.as_ref());
}

/// Loads and checks the model, and takes the memory for all that it will read. On a GPU no threads of the
/// CPU wait beside it.
fn prepare(dir: &Path, options: &Options) -> Result<(Worker, Option<Team>), StartError> {
    let Options { device, storage, cache_tokens } = *options;
    let (network, facts) = load(dir, storage, device)?;
    let device = facts.device;
    self_test(&network, storage).map_err(|reason| StartError::SelfTest { device, reason })?;
    let team = match network {
        Network::Cpu(_) => Some(Team::new().map_err(StartError::Thread)?),
        Network::Gpu(..) => None,
    };
    let blocks = cache_tokens.div_ceil(BLOCK_TOKENS);
    let reader = network.reader(blocks).map_err(|reason| StartError::Device { device, reason })?;
    let worker = Worker {
        reader,
        pool: Pool::new(blocks),
        facts: Arc::new(facts),
        waiting: VecDeque::new(),
        running: Vec::new(),
    };
    Ok((worker, team))
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it failed without a reason")
}

struct Worker {
    reader: Reader,
    facts: Arc<Facts>,
    pool: Pool,
    waiting: VecDeque<Request>,
    running: Vec<Sequence>,
}

/// What one sequence does in one pass.
struct Turn {
    sequence: usize,
    tokens: usize,
    /// Whether its last token is read, so that the next one can be chosen.
    complete: bool,
}

impl Worker {
    /// Runs passes until the channel is closed and everything is written, or until a pass panics or the
    /// device fails: what would be computed afterwards cannot be trusted. Dropping the senders tells
    /// everybody.
    fn work(mut self, mut receiver: mpsc::Receiver<Request>, team: Option<&Team>) {
        loop {
            if self.waiting.is_empty() && self.running.is_empty() {
                let Some(request) = receiver.blocking_recv() else { return };
                self.waiting.push_back(request);
            }
            while let Ok(request) = receiver.try_recv() {
                self.waiting.push_back(request);
            }
            self.forget_abandoned();
            self.admit();
            if self.running.is_empty() {
                continue;
            }
            let started = Instant::now();
            let pass = AssertUnwindSafe(|| match team {
                Some(team) => team.run(|| self.pass()),
                None => self.pass(),
            });
            let reason = match catch_unwind(pass) {
                Ok(Ok(())) => None,
                Ok(Err(reason)) => Some(reason),
                Err(panic) => Some(message(&*panic).to_owned()),
            };
            if let Some(reason) = reason {
                tracing::error!(reason, "the decoder's thread ends");
                let error = GenerateError::Device { device: self.facts.device, reason };
                self.running.iter().for_each(|sequence| sequence.fail(error.clone()));
                return;
            }
            metrics::histogram!("auspex_decoder_pass_seconds").record(started.elapsed());
            let used = self.pool.size() - self.pool.free();
            metrics::gauge!("auspex_decoder_cache_blocks_used").set(used as f64);
        }
    }

    fn forget_abandoned(&mut self) {
        let before = self.waiting.len() + self.running.len();
        self.waiting.retain(|request| !request.events.is_closed());
        let pool = &mut self.pool;
        self.running.retain(|sequence| {
            let abandoned = sequence.is_abandoned();
            if abandoned {
                pool.give_back(sequence.blocks());
            }
            !abandoned
        });
        let abandoned = before - self.waiting.len() - self.running.len();
        metrics::counter!("auspex_decoder_abandoned_total").increment(abandoned as u64);
    }

    /// Starts what waits, in its order, while there is room. Every request fits an empty cache.
    fn admit(&mut self) {
        while self.running.len() < SEQUENCES_MAX {
            let Some(request) = self.waiting.pop_front() else { return };
            let asked = request.asked;
            match Sequence::admit(request, &mut self.pool) {
                Ok(sequence) => {
                    metrics::histogram!("auspex_decoder_queue_seconds").record(asked.elapsed());
                    self.running.push(sequence);
                }
                Err(request) => {
                    self.waiting.push_front(*request);
                    return;
                }
            }
        }
    }

    /// One token of every output that is being written, then pieces of prompts.
    fn pass(&mut self) -> Result<(), String> {
        let turns = self.turns();
        let spans: Vec<Span<'_>> = turns
            .iter()
            .map(|turn| {
                let sequence = &self.running[turn.sequence];
                Span {
                    blocks: sequence.blocks(),
                    start: sequence.position(),
                    tokens: &sequence.unread()[..turn.tokens],
                }
            })
            .collect();
        let mut row = 0;
        let mut last_rows = Vec::new();
        for turn in &turns {
            row += turn.tokens;
            if turn.complete {
                last_rows.push(row - 1);
            }
        }
        metrics::histogram!("auspex_decoder_pass_tokens").record(row as f64);
        let mut logits = self.reader.pass(&spans, &last_rows)?;
        let mut rows = logits.values.chunks_exact_mut(self.facts.vocabulary);

        let mut ended = Vec::new();
        for turn in &turns {
            let sequence = &mut self.running[turn.sequence];
            sequence.advance(turn.tokens, &mut self.pool);
            let Some(logits) = (if turn.complete { rows.next() } else { None }) else { continue };
            if !logits.iter().all(|logit| logit.is_finite()) {
                sequence.fail(GenerateError::Numbers);
                ended.push(turn.sequence);
            } else if sequence.choose(logits, &self.facts) {
                ended.push(turn.sequence);
            }
        }
        ended.sort_unstable();
        for index in ended.into_iter().rev() {
            let sequence = self.running.remove(index);
            self.pool.give_back(sequence.blocks());
        }
        Ok(())
    }

    fn turns(&self) -> Vec<Turn> {
        let mut turns = Vec::new();
        let mut room = PASS_TOKENS_MAX;
        let (writing, reading): (Vec<usize>, Vec<usize>) =
            (0..self.running.len()).partition(|index| self.running[*index].unread().len() == 1);
        for sequence in writing.into_iter().chain(reading) {
            let unread = self.running[sequence].unread().len();
            let tokens = unread.min(room);
            if tokens == 0 {
                break;
            }
            room -= tokens;
            turns.push(Turn { sequence, tokens, complete: tokens == unread });
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{Event, Parameters, Storage};
    use crate::device::{DeviceChoice, adapters};

    #[test]
    fn a_device_that_fails_ends_the_thread_and_every_output_with_its_reason() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/decoder/llama3");
        let software = adapters().into_iter().find(|adapter| adapter.software).unwrap();
        let device = DeviceChoice::Wgpu(Some(software.number));
        let options = Options { device, storage: Storage::F16, cache_tokens: 128 };
        let (worker, team) = prepare(&dir, &options).unwrap();
        assert!(team.is_none(), "threads of the CPU would wait beside the GPU");
        let (requests, receiver) = mpsc::channel(4);
        // Nothing but a device's own failures reaches a pass from outside; this stands for one.
        let unknown = worker.facts.vocabulary as u32;
        let mut outputs = Vec::new();
        for prompt in [vec![5, 6], vec![7, unknown], vec![8]] {
            let (events, output) = mpsc::unbounded_channel();
            let parameters = Parameters { max_tokens: 4, ..Parameters::default() };
            let asked = Instant::now();
            let request = Request { prompt, parameters, constraint: None, events, asked };
            requests.try_send(request).unwrap();
            outputs.push(output);
        }
        worker.work(receiver, None);
        for mut output in outputs {
            let Some(Event::Done(Err(error))) = output.blocking_recv() else {
                panic!("an output went on")
            };
            assert!(
                matches!(&error, GenerateError::Device { device: failed, .. } if *failed == device),
                "{error}"
            );
            assert!(error.to_string().contains("none of the"), "{error}");
        }
        assert!(requests.is_closed());
    }
}
