//! The next token out of logits.
//!
//! Everything is decided by the logits, the parameters and the seed: candidates are ordered by
//! logit and then by id, sums run in that order, and the random number of the n-th token is a
//! function of seed and n alone.

mod philox;
mod stop;

use std::cmp::Ordering;

use super::{
    error::PromptError,
    limits::{STOP_BYTES_MAX, STOPS_MAX},
};
use crate::kernels::exp::exp;
pub(crate) use stop::StopScanner;

/// Candidates this many temperatures below the best are left out: all of them together weigh less
/// than 2e-8 of the best in any published vocabulary.
const DEPTH: f32 = 30.0;

/// How an output is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// Most tokens that are written.
    pub max_tokens: usize,
    /// 0 takes the best token always; above it, logits are divided by it.
    pub temperature: f32,
    /// Only that many of the best candidates; 0 for all.
    pub top_k: usize,
    /// Only the best candidates that together have this probability; 1 for all.
    pub top_p: f32,
    /// Only candidates with this share of the best one's probability; 0 for all.
    pub min_p: f32,
    /// Logits of tokens that are in the prompt or the output are divided by it where positive,
    /// multiplied where negative; 1 for none.
    pub repetition_penalty: f32,
    /// Decides all random numbers.
    pub seed: u64,
    /// Texts that end the output and are not part of it.
    pub stop: Vec<String>,
    /// A JSON schema that the output follows.
    pub schema: Option<serde_json::Value>,
}

impl Default for Parameters {
    /// The best token always, up to 512.
    fn default() -> Self {
        Self {
            max_tokens: 512,
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            seed: 0,
            stop: Vec::new(),
            schema: None,
        }
    }
}

impl Parameters {
    /// Refuses what has no meaning.
    pub(crate) fn check(&self) -> Result<(), PromptError> {
        let refuse =
            |field, value: String, allowed| Err(PromptError::Parameter { field, value, allowed });
        if self.max_tokens == 0 {
            return refuse("max_tokens", self.max_tokens.to_string(), "1 or more");
        }
        if !(0.0..=100.0).contains(&self.temperature) {
            return refuse("temperature", self.temperature.to_string(), "0 to 100");
        }
        if !(0.0 < self.top_p && self.top_p <= 1.0) {
            return refuse("top_p", self.top_p.to_string(), "above 0, at most 1");
        }
        if !(0.0..=1.0).contains(&self.min_p) {
            return refuse("min_p", self.min_p.to_string(), "0 to 1");
        }
        if !(0.01..=100.0).contains(&self.repetition_penalty) {
            let value = self.repetition_penalty.to_string();
            return refuse("repetition_penalty", value, "0.01 to 100");
        }
        let right = |stop: &String| (1..=STOP_BYTES_MAX).contains(&stop.len());
        if STOPS_MAX < self.stop.len() || !self.stop.iter().all(right) {
            return Err(PromptError::Stops(self.stop.len()));
        }
        Ok(())
    }
}

/// The token that follows. `seen` are the tokens of prompt and output, `index` the number of
/// tokens written before; `None` when no token is allowed (all logits are negative infinity).
pub(crate) fn sample(
    logits: &mut [f32],
    parameters: &Parameters,
    seen: &[u32],
    index: usize,
) -> Option<u32> {
    penalize(logits, parameters.repetition_penalty, seen);
    if parameters.temperature == 0.0 {
        let best = best(logits)?;
        return (f32::NEG_INFINITY < logits[best]).then_some(best as u32);
    }
    let candidates = candidates(logits, parameters);
    let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
    let threshold = total * philox::unit(parameters.seed, index as u64);
    let mut sum = 0.0;
    for candidate in &candidates {
        sum += f64::from(candidate.weight);
        if threshold < sum {
            return Some(candidate.id);
        }
    }
    candidates.last().map(|candidate| candidate.id)
}

/// A token that may be drawn; the best one has weight 1.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Candidate {
    id: u32,
    weight: f32,
}

fn penalize(logits: &mut [f32], penalty: f32, seen: &[u32]) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = seen.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if 0.0 < *logit { *logit / penalty } else { *logit * penalty };
        }
    }
}

/// What is left of the vocabulary, best first.
fn candidates(logits: &[f32], parameters: &Parameters) -> Vec<Candidate> {
    let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if best == f32::NEG_INFINITY {
        return Vec::new();
    }
    let least = best - DEPTH * parameters.temperature;
    let mut ids: Vec<usize> = (0..logits.len()).filter(|id| least <= logits[*id]).collect();
    if 0 < parameters.top_k && parameters.top_k < ids.len() {
        ids.select_nth_unstable_by(parameters.top_k, |left, right| order(logits, *left, *right));
        ids.truncate(parameters.top_k);
    }
    ids.sort_unstable_by(|left, right| order(logits, *left, *right));
    let weight = |id: &usize| exp((logits[*id] - best) / parameters.temperature);
    let mut candidates: Vec<Candidate> =
        ids.iter().map(|id| Candidate { id: *id as u32, weight: weight(id) }).collect();
    if parameters.top_p < 1.0 {
        let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.weight)).sum();
        let wanted = total * f64::from(parameters.top_p);
        let mut sum = 0.0;
        let before = candidates.iter().take_while(|candidate| {
            let wants_more = sum < wanted;
            sum += f64::from(candidate.weight);
            wants_more
        });
        let count = before.count();
        candidates.truncate(count.max(1));
    }
    candidates.retain(|candidate| parameters.min_p <= candidate.weight);
    candidates
}

/// The first of all in [`order`]. Two plain loops over a vocabulary, which vector instructions run,
/// take a tenth of the time of comparing entries one by one.
fn best(logits: &[f32]) -> Option<usize> {
    let largest = logits.iter().map(|logit| rank(*logit)).max()?;
    logits.iter().position(|logit| rank(*logit) == largest)
}

/// An integer that orders floats as [`f32::total_cmp`] does.
#[inline(always)]
fn rank(value: f32) -> i32 {
    let bits = value.to_bits().cast_signed();
    bits ^ ((bits >> 31).cast_unsigned() >> 1).cast_signed()
}

/// The better logit first, the smaller id of equal ones.
fn order(logits: &[f32], left: usize, right: usize) -> Ordering {
    logits[right].total_cmp(&logits[left]).then(left.cmp(&right))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hot(change: impl FnOnce(&mut Parameters)) -> Parameters {
        let mut parameters = Parameters { temperature: 1.0, ..Parameters::default() };
        change(&mut parameters);
        parameters
    }

    fn ids(logits: &[f32], parameters: &Parameters) -> Vec<u32> {
        candidates(logits, parameters).iter().map(|candidate| candidate.id).collect()
    }

    #[test]
    fn the_best_token_wins_and_the_smaller_id_of_equal_ones() {
        let parameters = Parameters::default();
        assert_eq!(sample(&mut [1.0, 3.0, 3.0, 2.0], &parameters, &[], 0), Some(1));
        let values = [0.0, -0.0, 1.0, 1.0, -3.5, f32::NEG_INFINITY, f32::INFINITY, 1e-40];
        for start in 0..values.len() {
            for end in start + 1..=values.len() {
                let logits = &values[start..end];
                let first = (0..logits.len()).min_by(|a, b| order(logits, *a, *b));
                assert_eq!(best(logits), first, "{logits:?}");
            }
        }
        let none = f32::NEG_INFINITY;
        assert_eq!(sample(&mut [none, none], &parameters, &[], 0), None);
        assert_eq!(sample(&mut [none, none], &hot(|_| ()), &[], 0), None);
    }

    #[test]
    fn each_filter_keeps_what_it_says() {
        // Probabilities 0.5, 0.25, 0.125, 0.125.
        let logits = [0.125_f32.ln(), 0.5_f32.ln(), 0.25_f32.ln(), 0.125_f32.ln()];
        assert_eq!(ids(&logits, &hot(|_| ())), [1, 2, 0, 3]);
        assert_eq!(ids(&logits, &hot(|p| p.top_k = 3)), [1, 2, 0]);
        assert_eq!(ids(&logits, &hot(|p| p.top_p = 0.7)), [1, 2]);
        assert_eq!(ids(&logits, &hot(|p| p.top_p = 0.01)), [1]);
        assert_eq!(ids(&logits, &hot(|p| p.min_p = 0.4)), [1, 2]);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [0.125_f32.ln(), 0.5_f32.ln(), 0.25_f32.ln(), 0.125_f32.ln()];
        let parameters = hot(|p| p.seed = 42);
        let mut counts = [0_u32; 4];
        for index in 0..8000 {
            let mut logits = logits;
            counts[sample(&mut logits, &parameters, &[], index).unwrap() as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([1000.0, 4000.0, 2000.0, 1000.0_f64]) {
            // Five standard deviations.
            assert!((f64::from(count) - expected).abs() < 5.0 * expected.sqrt(), "{counts:?}");
        }
    }

    #[test]
    fn a_draw_depends_on_seed_and_index_only() {
        let logits: Vec<f32> = (0..100).map(|id| (id % 7) as f32 / 3.0).collect();
        let draw = |seed: u64, index: usize| {
            sample(&mut logits.clone(), &hot(|p| p.seed = seed), &[], index).unwrap()
        };
        let run = |seed: u64| (0..20).map(|index| draw(seed, index)).collect::<Vec<_>>();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn what_was_said_becomes_less_likely() {
        let mut logits = [2.0, 1.9, -1.0];
        penalize(&mut logits, 2.0, &[0, 2, 0]);
        assert_eq!(logits, [1.0, 1.9, -2.0]);
    }

    #[test]
    fn a_wrong_parameter_is_named() {
        for (parameters, field) in [
            (hot(|p| p.temperature = -1.0), "temperature"),
            (hot(|p| p.temperature = f32::NAN), "temperature"),
            (hot(|p| p.top_p = 0.0), "top_p"),
            (hot(|p| p.min_p = 2.0), "min_p"),
            (hot(|p| p.repetition_penalty = 0.0), "repetition_penalty"),
            (hot(|p| p.max_tokens = 0), "max_tokens"),
            (hot(|p| p.stop = vec![String::new()]), "stop"),
        ] {
            let error = parameters.check().unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
        hot(|_| ()).check().unwrap();
    }
}
