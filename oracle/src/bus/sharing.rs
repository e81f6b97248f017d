//! Shared subscriptions: which messages the processes of one operator divide among them, and how a broker is found out that
//! takes such a subscription for an ordinary name and stays silent. Pure.
//!
//! Messages about requests only fill the inbox, which all processes of an operator have in common, and wake workers, any of
//! which may claim the job: one process is enough for each. Heartbeats are for every process, because each looks for a
//! stranger with our key, and because a retained message is never shared.
//!
//! Each client also shares a topic of its own with nobody, and speaks there until it has heard itself.

use alloy::primitives::Address;
use auspex_protocol::topic::Topics;
use uuid::Uuid;

/// Times that a client speaks to itself before the broker is known not to share.
const PROBES_MAX: usize = 10;

/// What one client knows about its broker.
#[derive(Debug)]
pub(super) struct Sharing {
    state: State,
    /// The client's own topic.
    own: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    Hoped { probes: usize },
    Proven,
}

/// What is to be done about it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Speak on the client's own topic.
    Probe,
    /// The broker does not share: subscribe to [`undivided`].
    GiveUp,
}

impl Sharing {
    pub(super) fn new(wanted: bool, topics: &Topics, signer: Address) -> Self {
        let state = if wanted { State::Hoped { probes: 0 } } else { State::Off };
        // Below the heartbeat's, where an operator may speak.
        let own = format!("{}/{}", topics.heartbeat(signer), Uuid::new_v4().simple());
        Self { state, own }
    }

    /// The topic on which the client speaks to itself.
    pub(super) fn own_topic(&self) -> &str {
        &self.own
    }

    /// What a new client subscribes to. A group has one filter only: rumqttd keeps one place per group, whatever its filters
    /// are.
    pub(super) fn filters(&self, topics: &Topics, owner: Address) -> Vec<String> {
        let [quorums, requests] = undivided(topics);
        let mut filters = match self.state {
            State::Off => vec![quorums, requests],
            State::Hoped { .. } | State::Proven => {
                let group =
                    |name: &str, filter: &str| format!("$share/auspex-{owner:#x}-{name}/{filter}");
                let alone = self.own.rsplit('/').next().unwrap_or_default();
                vec![
                    group("quorum", &quorums),
                    group("requests", &requests),
                    group(alone, &self.own),
                ]
            }
        };
        filters.push(topics.heartbeats());
        filters
    }

    /// True when a message is the client's own, which means nothing else.
    pub(super) fn heard(&mut self, topic: &str) -> bool {
        let ours = topic == self.own;
        if ours && self.state != State::Off {
            self.state = State::Proven;
        }
        ours
    }

    /// What to do, asked now and then.
    pub(super) fn step(&mut self) -> Step {
        match self.state {
            State::Hoped { probes } if probes < PROBES_MAX => {
                self.state = State::Hoped { probes: probes + 1 };
                Step::Probe
            }
            State::Hoped { .. } => {
                self.state = State::Off;
                Step::GiveUp
            }
            State::Off | State::Proven => Step::Nothing,
        }
    }
}

/// The messages that may be divided, all of them.
pub(super) fn undivided(topics: &Topics) -> [String; 2] {
    [topics.quorums(), topics.requests()]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn topics() -> Topics {
        Topics::new(1, Address::repeat_byte(1))
    }

    fn sharing(wanted: bool) -> Sharing {
        Sharing::new(wanted, &topics(), Address::repeat_byte(3))
    }

    /// The groups of what is subscribed to.
    fn groups(sharing: &Sharing) -> BTreeSet<String> {
        let filters = sharing.filters(&topics(), Address::repeat_byte(2));
        assert!(filters.contains(&topics().heartbeats()));
        let shared = filters.iter().filter_map(|filter| filter.strip_prefix("$share/"));
        let groups = shared.filter_map(|rest| rest.split('/').next().map(str::to_owned));
        groups.collect()
    }

    #[test]
    fn a_broker_that_stays_silent_does_not_share() {
        let mut sharing = sharing(true);
        assert_eq!(groups(&sharing).len(), 3, "each has a group of its own");
        for _ in 0..PROBES_MAX {
            assert_eq!(sharing.step(), Step::Probe);
            assert!(!sharing.heard("another/topic"));
        }
        assert_eq!((sharing.step(), sharing.step()), (Step::GiveUp, Step::Nothing));
        assert!(groups(&sharing).is_empty());
    }

    #[test]
    fn a_broker_that_answers_shares() {
        let mut sharing = sharing(true);
        assert_eq!(sharing.step(), Step::Probe);
        let own = sharing.own_topic().to_owned();
        assert!(sharing.heard(&own) && sharing.heard(&own));
        assert_eq!(sharing.step(), Step::Nothing);
        assert_eq!(groups(&sharing).len(), 3);
    }

    #[test]
    fn who_shares_nothing_asks_nothing() {
        let mut sharing = sharing(false);
        assert_eq!(sharing.step(), Step::Nothing);
        assert!(groups(&sharing).is_empty());
    }
}
