//! The threads of one model, awake for the length of a pass.
//!
//! Embedding a question, or writing one token, takes dozens of products of a fraction of a millisecond
//! each, with a little work of one thread between them. rayon's idle threads fall asleep in such a gap,
//! and waking them takes as long as a part of the product. So all threads but the one that leads the
//! pass look for work until the pass is over. They belong to this model alone, and only one pass runs
//! at a time, so that none of them can begin to look for work in the middle of something that others
//! wait for.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use auspex_avx512::crew::Crew;
use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

thread_local! {
    /// What the pass that this thread leads shares its products through.
    static CREW: RefCell<Option<Arc<Crew>>> = const { RefCell::new(None) };
}

/// As many threads as rayon takes by default.
#[derive(Debug)]
pub(crate) struct Team {
    threads: ThreadPool,
    crew: Arc<Crew>,
    /// Held by the caller whose pass runs.
    turn: Mutex<()>,
}

/// Says that the pass is over, also when it panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        CREW.take();
        self.0.store(true, Ordering::Release);
    }
}

impl Team {
    /// `Err` says why the system gave no threads.
    pub(crate) fn new() -> Result<Self, String> {
        let builder = ThreadPoolBuilder::new().thread_name(|index| format!("auspex-model-{index}"));
        let threads = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { threads, crew: Arc::default(), turn: Mutex::new(()) })
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
                        look_for_work(&self.crew, over);
                    }
                });
                let _over = Over(over);
                CREW.set(Some(Arc::clone(&self.crew)));
                pass()
            })
        })
    }
}

/// Hands `items` to the threads of the pass: `work` runs on each one that is free, and draws items for as
/// long as there are some. Outside a pass the threads are those of the pool that the caller is in.
pub(crate) fn each<I: Iterator + Send>(
    items: I,
    work: impl Fn(&mut dyn Iterator<Item = I::Item>) + Sync,
) {
    let items = Mutex::new(items);
    // An iterator that panicked has nothing left that could be drawn by mistake: its pass panics too.
    let draw = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let share = || work(&mut std::iter::from_fn(draw));
    let threads = rayon::current_num_threads();
    if threads == 1 {
        return share();
    }
    // Taken for as long as it is in use: what `work` itself hands out is not for the crew.
    let Some(crew) = CREW.take() else {
        return rayon::scope(|scope| {
            (1..threads).for_each(|_| scope.spawn(|_| share()));
            share();
        });
    };
    crew.share(&share);
    CREW.set(Some(crew));
}

fn look_for_work(crew: &Crew, over: &AtomicBool) {
    /// Looks at the crew for one at rayon's queues, which takes several times as long.
    const CREW_LOOKS: u32 = 16;
    /// Looks before the system may run another thread: about a gap between products.
    const LOOKS: u32 = 1000;
    let (mut looks, mut seen) = (0, 0);
    while !over.load(Ordering::Acquire) {
        looks += 1;
        let rayon = looks % CREW_LOOKS == 0;
        if crew.help(&mut seen) || rayon && rayon::yield_now() == Some(Yield::Executed) {
            looks = 0;
        } else if looks < LOOKS {
            std::hint::spin_loop();
        } else {
            looks -= CREW_LOOKS;
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
    fn each_item_is_drawn_once() {
        let team = Team::new().unwrap();
        let own = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        for count in 0..200_usize {
            let sum = || {
                let mut parts = vec![0; count];
                each(parts.iter_mut().enumerate(), |parts| {
                    for (index, part) in parts {
                        // Nothing of this may wait for the crew.
                        each(0..=index, |_| ());
                        *part += index + 1;
                    }
                });
                parts.iter().sum::<usize>()
            };
            let expected = count * (count + 1) / 2;
            assert_eq!(sum(), expected);
            assert_eq!(team.run(sum), expected);
            assert_eq!(own.install(sum), expected);
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
        let part = || team.run(|| each(0..9, |_| std::panic::resume_unwind(Box::new("lost"))));
        assert!(catch_unwind(AssertUnwindSafe(part)).is_err());
        assert_eq!(team.run(|| 7), 7);
    }
}
