//! The threads of one model, awake for the length of a pass.
//!
//! Embedding a question, or writing one token, takes dozens of products of a fraction of a millisecond
//! each, with a little work of one thread between them. rayon's idle threads fall asleep in such a gap,
//! and waking them takes as long as a part of the product. So all threads but the one that leads the
//! pass look for work until the pass is over. They belong to this model alone, and only one pass runs
//! at a time, so that none of them can begin to look for work in the middle of something that others
//! wait for.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

/// As many threads as rayon takes by default.
#[derive(Debug)]
pub(crate) struct Team {
    threads: ThreadPool,
    /// Held by the caller whose pass runs.
    turn: Mutex<()>,
}

/// Says that the pass is over, also when it panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Team {
    /// `Err` says why the system gave no threads.
    pub(crate) fn new() -> Result<Self, String> {
        let builder = ThreadPoolBuilder::new().thread_name(|index| format!("auspex-model-{index}"));
        let threads = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { threads, turn: Mutex::new(()) })
    }

    /// Runs `pass` on one of the threads, with the others awake; other callers wait. A caller that is
    /// in a pool of rayon's already has chosen its threads: `pass` runs there.
    pub(crate) fn run<T: Send>(&self, pass: impl FnOnce() -> T + Send) -> T {
        if rayon::current_thread_index().is_some() {
            return pass();
        }
        // A pass that panicked has left nothing behind that another one could see.
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let over = AtomicBool::new(false);
        let over = &over;
        self.threads.install(|| {
            let leader = rayon::current_thread_index();
            rayon::scope(|scope| {
                scope.spawn_broadcast(move |_, context| {
                    // The leader would look for work in the middle of its own.
                    if Some(context.index()) != leader {
                        look_for_work(over);
                    }
                });
                let _over = Over(over);
                pass()
            })
        })
    }
}

fn look_for_work(over: &AtomicBool) {
    /// Looks before the system may run another thread: a fraction of a gap between products.
    const LOOKS: u32 = 200;
    let mut looks = 0;
    while !over.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(Yield::Executed) {
            looks = 0;
        } else if looks < LOOKS {
            looks += 1;
            std::hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use rayon::prelude::*;

    use super::*;

    #[test]
    fn passes_of_many_small_parts_end() {
        let team = Team::new().unwrap();
        for pass in 0..200_usize {
            let sum = team.run(|| {
                let products = 0..20_usize;
                products
                    .map(|product| (0..64).into_par_iter().map(|x| x * product).sum::<usize>())
                    .sum::<usize>()
            });
            assert_eq!(sum, 190 * 2016, "{pass}");
        }
    }

    #[test]
    fn callers_on_many_threads_take_turns() {
        let team = Team::new().unwrap();
        let busy = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let sum = team.run(|| {
                            assert!(!busy.swap(true, Ordering::SeqCst), "two passes at once");
                            let sum = (0..64).into_par_iter().sum::<usize>();
                            busy.store(false, Ordering::SeqCst);
                            sum
                        });
                        assert_eq!(sum, 2016);
                    }
                });
            }
        });
    }

    #[test]
    fn a_callers_own_pool_is_kept() {
        let team = Team::new().unwrap();
        let own = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(own.install(|| team.run(rayon::current_num_threads)), 3);
    }

    #[test]
    fn a_pass_that_panics_ends_too() {
        let team = Team::new().unwrap();
        // `resume_unwind` panics without the noise of the panic hook.
        let pass = || team.run(|| -> () { std::panic::resume_unwind(Box::new("lost")) });
        assert!(catch_unwind(AssertUnwindSafe(pass)).is_err());
        assert_eq!(team.run(|| 7), 7);
    }
}
