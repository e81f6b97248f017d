//! Work that a thread shares with others that wait for it, awake.
//!
//! A product of one row takes some microseconds; to hand it over through a queue takes about as long. Here the threads that wait
//! look at one number.

use std::{
    fmt,
    sync::{
        RwLock, RwLockWriteGuard, TryLockError,
        atomic::{AtomicUsize, Ordering},
    },
};

/// Work for as long as it is in a crew's hands.
type Work = &'static (dyn Fn() + Sync);

/// Where one thread puts work and others find it.
#[derive(Default)]
pub struct Crew {
    /// Works that were put here so far.
    calls: AtomicUsize,
    /// Present while the thread that put it here is in [`Crew::share`]; read by all that are in it.
    work: RwLock<Option<Work>>,
}

/// Takes the work back, also when it panics.
struct End<'a>(&'a Crew);

impl Drop for End<'_> {
    fn drop(&mut self) {
        *self.0.alone() = None;
    }
}

impl Crew {
    /// Runs `work`, on this thread and at the same time on each one that comes to [`help`](Self::help) before it has returned
    /// here. Returns when it has returned everywhere. It must not share work with the same crew itself.
    pub fn share(&self, work: &(dyn Fn() + Sync)) {
        // SAFETY: the reference is only reached through the lock, by threads that hold it for as long as they use the reference.
        // `End` takes it out under the lock, which waits for them, before this function returns or unwinds; and nothing but this
        // call puts it there.
        #[expect(unsafe_code, reason = "a reference that others use only while this function runs")]
        let work = unsafe { std::mem::transmute::<&(dyn Fn() + Sync), Work>(work) };
        let _end = End(self);
        *self.alone() = Some(work);
        self.calls.fetch_add(1, Ordering::Release);
        work();
    }

    /// Takes part in the work that is shared now, unless it is `seen`, the number of a work that this thread knows already. Says
    /// whether it did.
    pub fn help(&self, seen: &mut usize) -> bool {
        let call = self.calls.load(Ordering::Acquire);
        if call == *seen {
            return false;
        }
        *seen = call;
        // Whoever holds the lock alone is taking back the work that was meant.
        let Ok(work) = self.work.try_read() else { return false };
        let Some(work) = *work else { return false };
        work();
        true
    }

    /// The lock, when nobody works any more: they are about to return.
    fn alone(&self) -> RwLockWriteGuard<'_, Option<Work>> {
        /// Looks before the system may run another thread, which may be one that is waited for.
        const LOOKS: u32 = 1000;
        let mut looks = 0;
        loop {
            match self.work.try_write() {
                Ok(work) => return work,
                // What panicked under the lock did not change what it guards.
                Err(TryLockError::Poisoned(work)) => return work.into_inner(),
                Err(TryLockError::WouldBlock) if looks < LOOKS => {
                    looks += 1;
                    std::hint::spin_loop();
                }
                Err(TryLockError::WouldBlock) => std::thread::yield_now(),
            }
        }
    }
}

impl fmt::Debug for Crew {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Crew({} works so far)", self.calls.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
        sync::atomic::AtomicBool,
    };

    use super::*;

    /// Runs `lead` while two other threads help.
    fn with_helpers(lead: impl FnOnce(&Crew)) {
        let (crew, over) = (Crew::default(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut seen = 0;
                    while !over.load(Ordering::Acquire) {
                        let help = AssertUnwindSafe(|| crew.help(&mut seen));
                        if !catch_unwind(help).unwrap_or(true) {
                            std::thread::yield_now();
                        }
                    }
                });
            }
            lead(&crew);
            over.store(true, Ordering::Release);
        });
    }

    #[test]
    fn every_part_is_done_once_and_before_the_call_returns() {
        with_helpers(|crew| {
            for count in 0..2000 {
                let (next, sum) = (AtomicUsize::new(0), AtomicUsize::new(0));
                crew.share(&|| {
                    loop {
                        let part = next.fetch_add(1, Ordering::Relaxed);
                        if count % 40 <= part {
                            break;
                        }
                        sum.fetch_add(part, Ordering::Relaxed);
                    }
                });
                let count = count % 40;
                assert_eq!(sum.into_inner(), count * count.saturating_sub(1) / 2);
            }
        });
    }

    #[test]
    fn others_take_part() {
        with_helpers(|crew| {
            let threads = AtomicUsize::new(0);
            crew.share(&|| {
                threads.fetch_add(1, Ordering::SeqCst);
                while threads.load(Ordering::SeqCst) < 3 {
                    std::thread::yield_now();
                }
            });
        });
    }

    #[test]
    fn work_that_panics_is_taken_back() {
        with_helpers(|crew| {
            for _ in 0..50 {
                let lost = AssertUnwindSafe(|| crew.share(&|| resume_unwind(Box::new("lost"))));
                assert!(catch_unwind(lost).is_err());
            }
            let runs = AtomicUsize::new(0);
            crew.share(&|| {
                runs.fetch_add(1, Ordering::Relaxed);
            });
            assert!((1..=3).contains(&runs.into_inner()));
        });
    }
}
