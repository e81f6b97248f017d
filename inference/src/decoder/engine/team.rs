//! The threads of one decoder, awake for the length of a pass.
//!
//! Writing one token takes a hundred products of a fraction of a millisecond each, with a little work
//! of one thread between them. rayon's idle threads fall asleep in such a gap, and waking them takes
//! as long as a part of the product. So all threads but the one that leads the pass look for work
//! until the pass is over. They belong to this decoder alone, and only one pass runs at a time, so
//! that none of them can begin to look for work in the middle of something that others wait for.

use std::sync::atomic::{AtomicBool, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

/// As many threads as rayon takes by default.
#[derive(Debug)]
pub(super) struct Team {
    threads: ThreadPool,
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
    pub(super) fn new() -> Result<Self, String> {
        let builder =
            ThreadPoolBuilder::new().thread_name(|index| format!("auspex-decoder-{index}"));
        Ok(Self { threads: builder.build().map_err(|error| error.to_string())? })
    }

    /// Runs `pass` on one of the threads, with the others awake. `&mut` keeps it to one at a time.
    pub(super) fn run<T: Send>(&mut self, pass: impl FnOnce() -> T + Send) -> T {
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
        let mut team = Team::new().unwrap();
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
    fn a_pass_that_panics_ends_too() {
        let mut team = Team::new().unwrap();
        // `resume_unwind` panics without the noise of the panic hook.
        let pass = || team.run(|| -> () { std::panic::resume_unwind(Box::new("lost")) });
        assert!(catch_unwind(AssertUnwindSafe(pass)).is_err());
        assert_eq!(team.run(|| 7), 7);
    }
}
