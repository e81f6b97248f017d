//! Jobs in work: which sequences run next, and when a job is complete.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::EngineError;
use crate::tokens::Sequence;

/// Texts of one caller on their way to vectors.
#[derive(Debug)]
pub(super) struct Job {
    sequences: Vec<Sequence>,
    /// Sequences that are in a batch already; always the first ones.
    taken: usize,
    vectors: Vec<Vec<f32>>,
    /// Gives the job's tokens back to admission when the job is dropped: before the reply is, so that
    /// a caller who hears of its end finds the queue without its own tokens.
    _permit: OwnedSemaphorePermit,
    reply: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
    queued_at: Instant,
    deadline: Option<Instant>,
}

impl Job {
    pub(super) fn new(
        sequences: Vec<Sequence>,
        reply: oneshot::Sender<Result<Vec<Vec<f32>>, EngineError>>,
        permit: OwnedSemaphorePermit,
        deadline: Option<Instant>,
    ) -> Self {
        Self {
            sequences,
            taken: 0,
            vectors: Vec::new(),
            reply,
            queued_at: Instant::now(),
            deadline,
            _permit: permit,
        }
    }
}

/// The jobs that are in work, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    jobs: VecDeque<Job>,
}

/// Positions of sequences in the queue.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Picks {
    picks: Vec<Pick>,
}

#[derive(Debug, PartialEq, Eq)]
struct Pick {
    job: usize,
    sequence: usize,
}

impl Queue {
    pub(super) fn push(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Forgets jobs whose caller has left, and returns how many these were.
    pub(super) fn drop_abandoned(&mut self) -> usize {
        let before = self.jobs.len();
        self.jobs.retain(|job| !job.reply.is_closed());
        before - self.jobs.len()
    }

    /// Replies to jobs whose deadline is over, and returns how many these were.
    pub(super) fn drop_late(&mut self, now: Instant) -> usize {
        let before = self.jobs.len();
        let error = EngineError::Late { needed: Duration::ZERO };
        let late = |job: &Job| job.deadline.is_some_and(|deadline| deadline <= now);
        self.reply_where(late, Some(&error));
        before - self.jobs.len()
    }

    /// Takes one sequence of each job in turn until `budget` tokens are reached, and at least one
    /// sequence, however long, if there is any.
    pub(super) fn take(&mut self, budget: usize) -> Picks {
        let mut picks = Vec::new();
        let mut tokens = 0;
        loop {
            let before = picks.len();
            for (index, job) in self.jobs.iter_mut().enumerate() {
                let Some(sequence) = job.sequences.get(job.taken) else { continue };
                if !picks.is_empty() && budget < tokens + sequence.len() {
                    return Picks { picks };
                }
                if job.taken == 0 {
                    metrics::histogram!("auspex_inference_queue_seconds")
                        .record(job.queued_at.elapsed());
                }
                tokens += sequence.len();
                picks.push(Pick { job: index, sequence: job.taken });
                job.taken += 1;
            }
            if before == picks.len() {
                return Picks { picks };
            }
        }
    }

    /// The token ids of what [`take`](Self::take) picked.
    pub(super) fn sequences(&self, picks: &Picks) -> Vec<&Sequence> {
        let sequence = |pick: &Pick| &self.jobs[pick.job].sequences[pick.sequence];
        picks.picks.iter().map(sequence).collect()
    }

    /// Hands the vectors of a batch to their jobs and replies to every job that is complete.
    pub(super) fn finish(&mut self, picks: &Picks, vectors: Vec<Vec<f32>>) {
        for (pick, vector) in picks.picks.iter().zip(vectors) {
            self.jobs[pick.job].vectors.push(vector);
        }
        self.reply_where(|job| job.vectors.len() == job.sequences.len(), None);
    }

    /// Replies `error` to every job that had a sequence in the batch.
    pub(super) fn fail(&mut self, picks: &Picks, error: &EngineError) {
        let last = picks.picks.iter().map(|pick| pick.job).max();
        let mut failed = vec![false; last.map_or(0, |last| last + 1)];
        for pick in &picks.picks {
            failed[pick.job] = true;
        }
        let mut failed = failed.into_iter();
        self.reply_where(|_| failed.next().unwrap_or(false), Some(error));
    }

    fn reply_where(&mut self, mut ends: impl FnMut(&Job) -> bool, error: Option<&EngineError>) {
        for job in std::mem::take(&mut self.jobs) {
            if !ends(&job) {
                self.jobs.push_back(job);
                continue;
            }
            let Job { vectors, reply, _permit: permit, .. } = job;
            // Room is given back before the reply, so that a caller who has its answer finds the
            // queue without its own tokens.
            drop(permit);
            // A caller that left in this moment does not miss its vectors.
            let _ = reply.send(error.map_or(Ok(vectors), |error| Err(error.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    type Reply = oneshot::Receiver<Result<Vec<Vec<f32>>, EngineError>>;

    #[test]
    fn jobs_take_turns() {
        let (mut queue, _replies) = queue(&[&[10, 10, 10], &[10], &[10, 10]]);
        assert_eq!(jobs_of(&queue.take(45)), [0, 1, 2, 0]);
        assert_eq!(jobs_of(&queue.take(45)), [0, 2]);
        assert!(jobs_of(&queue.take(45)).is_empty());
    }

    #[test]
    fn a_sequence_over_the_budget_runs_alone() {
        let (mut queue, _replies) = queue(&[&[100], &[1]]);
        assert_eq!(jobs_of(&queue.take(50)), [0]);
        assert_eq!(jobs_of(&queue.take(50)), [1]);
    }

    #[test]
    fn vectors_reach_their_job_in_order_and_room_is_given_back() {
        let admission = Arc::new(Semaphore::new(10));
        let (mut queue, mut replies) = queue_admitted(&admission, &[&[1, 2], &[3]]);
        assert_eq!(admission.available_permits(), 4);
        while !queue.is_empty() {
            let picks = queue.take(2);
            let vectors =
                queue.sequences(&picks).iter().map(|ids| vec![ids.len() as f32]).collect();
            queue.finish(&picks, vectors);
        }
        assert_eq!(replies[0].try_recv().unwrap().unwrap(), [[1.0], [2.0]]);
        assert_eq!(replies[1].try_recv().unwrap().unwrap(), [[3.0]]);
        assert_eq!(admission.available_permits(), 10);
    }

    #[test]
    fn a_failure_reaches_only_the_jobs_of_its_batch() {
        let (mut queue, mut replies) = queue(&[&[5], &[5], &[5]]);
        let picks = queue.take(10);
        queue.fail(&picks, &EngineError::Overloaded);
        assert!(replies[0].try_recv().unwrap().is_err());
        assert!(replies[1].try_recv().unwrap().is_err());
        let picks = queue.take(10);
        queue.finish(&picks, vec![vec![1.0]]);
        assert!(replies[2].try_recv().unwrap().is_ok());
    }

    #[test]
    fn a_job_without_its_caller_is_forgotten() {
        let admission = Arc::new(Semaphore::new(10));
        let (mut queue, mut replies) = queue_admitted(&admission, &[&[5], &[2]]);
        drop(replies.remove(0));
        assert_eq!(queue.drop_abandoned(), 1);
        assert_eq!(admission.available_permits(), 8);
        let picks = queue.take(100);
        assert_eq!(queue.sequences(&picks), [&Sequence::single(vec![0, 0])]);
    }

    #[test]
    fn a_job_whose_deadline_is_over_is_told_so() {
        let now = Instant::now();
        let admission = Arc::new(Semaphore::new(10));
        let (mut queue, mut replies) = queue_admitted(&admission, &[&[5], &[2]]);
        queue.jobs[0].deadline = Some(now);
        queue.jobs[1].deadline = Some(now + Duration::from_millis(1));
        assert_eq!(queue.drop_late(now), 1);
        let error = replies[0].try_recv().unwrap().unwrap_err();
        assert!(matches!(error, EngineError::Late { .. }), "{error}");
        assert!(replies[1].try_recv().is_err());
        assert_eq!(admission.available_permits(), 8);
    }

    fn queue(lengths: &[&[usize]]) -> (Queue, Vec<Reply>) {
        queue_admitted(&Arc::new(Semaphore::new(1000)), lengths)
    }

    fn queue_admitted(admission: &Arc<Semaphore>, lengths: &[&[usize]]) -> (Queue, Vec<Reply>) {
        let mut queue = Queue::default();
        let mut replies = Vec::new();
        for lengths in lengths {
            let sequence = |length: &usize| Sequence::single(vec![0; *length]);
            let sequences: Vec<Sequence> = lengths.iter().map(sequence).collect();
            let tokens = lengths.iter().sum::<usize>() as u32;
            let permit = Arc::clone(admission).try_acquire_many_owned(tokens).unwrap();
            let (reply, receiver) = oneshot::channel();
            queue.push(Job::new(sequences, reply, permit, None));
            replies.push(receiver);
        }
        (queue, replies)
    }

    fn jobs_of(picks: &Picks) -> Vec<usize> {
        picks.picks.iter().map(|pick| pick.job).collect()
    }
}
