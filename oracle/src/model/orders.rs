//! The orders that a model process has or is to have, and which of them to send next. Pure.
//!
//! An order that a process ended under is sent again alone. If it is what ends processes, it uses up its own tries and
//! nobody else's; and if it is not, it only waited.

use std::collections::BTreeMap;

use crate::limits::MODEL_ATTEMPTS_MAX;

/// Orders by id, in the order in which they came.
#[derive(Debug)]
pub struct Orders<T> {
    next: u64,
    known: BTreeMap<u64, Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    content: T,
    /// Processes that ended under it.
    ends: u32,
    is_sent: bool,
}

impl<T> Default for Orders<T> {
    fn default() -> Self {
        Self { next: 0, known: BTreeMap::new() }
    }
}

impl<T> Orders<T> {
    pub fn add(&mut self, content: T) -> u64 {
        let id = self.next;
        self.next += 1;
        self.known.insert(id, Entry { content, ends: 0, is_sent: false });
        id
    }

    pub fn get(&self, id: u64) -> Option<&T> {
        self.known.get(&id).map(|entry| &entry.content)
    }

    /// Forgets an order; says whether a process has it.
    pub fn remove(&mut self, id: u64) -> Option<(T, bool)> {
        self.known.remove(&id).map(|entry| (entry.content, entry.is_sent))
    }

    pub fn len(&self) -> usize {
        self.known.len()
    }

    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whether a process has any.
    pub fn any_sent(&self) -> bool {
        self.known.values().any(|entry| entry.is_sent)
    }

    /// What is to be sent now.
    pub fn due(&self) -> Vec<u64> {
        let suspect = self.known.iter().find(|(_, entry)| 0 < entry.ends);
        match suspect {
            Some(_) if self.any_sent() => Vec::new(),
            Some((id, _)) => vec![*id],
            None => {
                let unsent = self.known.iter().filter(|(_, entry)| !entry.is_sent);
                unsent.map(|(id, _)| *id).collect()
            }
        }
    }

    /// Notes that a process is given an order; says how many have ended under it before.
    pub fn sent(&mut self, id: u64) -> u32 {
        self.known.get_mut(&id).map_or(0, |entry| {
            entry.is_sent = true;
            entry.ends
        })
    }

    /// How many processes have ended under an order.
    pub fn ends(&self, id: u64) -> u32 {
        self.known.get(&id).map_or(0, |entry| entry.ends)
    }

    /// Whether what processes have is one order that others have ended under: then it is at fault, if it is not the device.
    pub fn is_suspect_alone(&self) -> bool {
        self.known.values().any(|entry| entry.is_sent && 0 < entry.ends)
    }

    /// The process ended. Gives back the orders that have seen [`MODEL_ATTEMPTS_MAX`] of them end; the others are due again.
    pub fn process_ended(&mut self) -> Vec<T> {
        for entry in self.known.values_mut().filter(|entry| entry.is_sent) {
            entry.is_sent = false;
            entry.ends += 1;
        }
        let given_up = self.known.extract_if(.., |_, entry| MODEL_ATTEMPTS_MAX <= entry.ends);
        given_up.map(|(_, entry)| entry.content).collect()
    }

    /// Forgets all.
    pub fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.known).into_values().map(|entry| entry.content).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sends what is due, with how many processes have ended under it before.
    fn send<T>(orders: &mut Orders<T>) -> Vec<(u64, u32)> {
        orders.due().into_iter().map(|id| (id, orders.sent(id))).collect()
    }

    #[test]
    fn orders_run_side_by_side_until_a_process_ends_under_them() {
        let mut orders = Orders::default();
        for name in ["a", "b"] {
            orders.add(name);
        }
        assert_eq!(send(&mut orders), [(0, 0), (1, 0)]);
        orders.add("c");
        assert_eq!(send(&mut orders), [(2, 0)]);
        assert!(orders.process_ended().is_empty());
        orders.add("d");
        assert_eq!(send(&mut orders), [(0, 1)], "alone");
        assert_eq!(send(&mut orders), []);
        assert_eq!(orders.remove(0), Some(("a", true)));
        assert_eq!(send(&mut orders), [(1, 1)]);
        orders.remove(1);
        assert_eq!(send(&mut orders), [(2, 1)]);
        orders.remove(2);
        assert_eq!(send(&mut orders), [(3, 0)]);
    }

    proptest! {
        /// Whatever comes together with an order that ends every process, all others are done, and it is given up.
        #[test]
        fn a_poisoned_order_takes_nobody_with_it(count in 1usize..8, poison in 0usize..8, together in 1usize..8) {
            let poison = poison % count;
            let mut orders = Orders::default();
            let (mut done, mut given_up, mut coming) = (Vec::new(), Vec::new(), 0..count);
            for _ in 0..100 {
                coming.by_ref().take(together).for_each(|order| { orders.add(order); });
                let sent = send(&mut orders);
                if sent.iter().any(|(id, _)| orders.get(*id) == Some(&poison)) {
                    given_up.extend(orders.process_ended());
                    continue;
                }
                let ended = sent.into_iter().filter_map(|(id, _)| orders.remove(id));
                done.extend(ended.map(|(order, _)| order));
            }
            done.sort_unstable();
            let others: Vec<usize> = (0..count).filter(|order| *order != poison).collect();
            prop_assert_eq!(done, others);
            prop_assert_eq!(given_up, [poison]);
            prop_assert!(orders.is_empty());
        }
    }
}
