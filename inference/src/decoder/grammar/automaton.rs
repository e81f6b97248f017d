//! Automata over bytes: built with empty steps, run as sets of states that are made when they are
//! first reached.

use std::collections::BTreeMap;

/// States of an automaton; a schema that needs more is refused.
const STATES_MAX: usize = 50_000;

/// A nondeterministic automaton.
#[derive(Debug, Default)]
pub(super) struct Automaton {
    /// For each state: ranges of bytes and where they lead.
    steps: Vec<Vec<(u8, u8, u32)>>,
    /// For each state: where it leads without a byte.
    empty: Vec<Vec<u32>>,
    pub(super) end: u32,
}

impl Automaton {
    pub(super) fn state(&mut self) -> Result<u32, String> {
        if self.steps.len() == STATES_MAX {
            return Err(format!(
                "it needs more than {STATES_MAX} states; lower its maxLength and maxItems"
            ));
        }
        self.steps.push(Vec::new());
        self.empty.push(Vec::new());
        Ok(self.steps.len() as u32 - 1)
    }

    pub(super) fn link(&mut self, from: u32, to: u32) {
        self.empty[from as usize].push(to);
    }

    pub(super) fn range(&mut self, from: u32, low: u8, high: u8, to: u32) {
        self.steps[from as usize].push((low, high, to));
    }

    /// `bytes`, one after the other; gives the state behind them.
    pub(super) fn word(&mut self, from: u32, bytes: &[u8]) -> Result<u32, String> {
        let mut state = from;
        for byte in bytes {
            let next = self.state()?;
            self.range(state, *byte, *byte, next);
            state = next;
        }
        Ok(state)
    }

    /// All states that `states` lead to without a byte, sorted.
    fn closure(&self, mut states: Vec<u32>) -> Vec<u32> {
        let mut seen: std::collections::BTreeSet<u32> = states.iter().copied().collect();
        while let Some(state) = states.pop() {
            for next in &self.empty[state as usize] {
                if seen.insert(*next) {
                    states.push(*next);
                }
            }
        }
        seen.into_iter().collect()
    }
}

/// A set of states of an automaton, by its number.
pub(super) type StateId = u32;

/// The empty set: nothing can follow any more.
const DEAD: StateId = 0;

/// A step that was not taken yet.
const UNKNOWN: StateId = u32::MAX;

/// A deterministic view of an automaton, made as far as it is used.
#[derive(Debug)]
pub(super) struct Lazy {
    automaton: Automaton,
    sets: Vec<Vec<u32>>,
    by_set: BTreeMap<Vec<u32>, StateId>,
    steps: Vec<[StateId; 256]>,
    start: StateId,
}

impl Lazy {
    /// The automaton's first state is its start.
    pub(super) fn new(automaton: Automaton) -> Self {
        let start = automaton.closure(vec![0]);
        let mut lazy = Self {
            automaton,
            sets: Vec::new(),
            by_set: BTreeMap::new(),
            steps: Vec::new(),
            start: DEAD,
        };
        lazy.id(Vec::new());
        lazy.start = lazy.id(start);
        lazy
    }

    pub(super) fn start(&self) -> StateId {
        self.start
    }

    pub(super) fn is_dead(&self, state: StateId) -> bool {
        state == DEAD
    }

    /// Whether the text may end here.
    pub(super) fn accepts(&self, state: StateId) -> bool {
        self.sets[state as usize].contains(&self.automaton.end)
    }

    pub(super) fn step(&mut self, state: StateId, byte: u8) -> StateId {
        let known = self.steps[state as usize][usize::from(byte)];
        if known != UNKNOWN {
            return known;
        }
        let reached: Vec<u32> = self.sets[state as usize]
            .iter()
            .flat_map(|state| &self.automaton.steps[*state as usize])
            .filter(|(low, high, _)| (*low..=*high).contains(&byte))
            .map(|(_, _, to)| *to)
            .collect();
        let next = self.automaton.closure(reached);
        let next = self.id(next);
        self.steps[state as usize][usize::from(byte)] = next;
        next
    }

    fn id(&mut self, set: Vec<u32>) -> StateId {
        if let Some(id) = self.by_set.get(&set) {
            return *id;
        }
        let id = self.sets.len() as StateId;
        self.sets.push(set.clone());
        self.steps.push([UNKNOWN; 256]);
        self.by_set.insert(set, id);
        id
    }
}
