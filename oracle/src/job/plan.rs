//! What happens next to a job, as a pure function of its row and of what the chain says.
//!
//! Assumptions: chain time is the latest block's; an absence is only evidence once our endpoint is well past the block in
//! which the request was seen.
//!
//! Invariants: no work starts inside the answer margin; a job is done only when its delivery is on the safe chain; a job
//! whose delivery a reorg took away goes back to work and keeps its result.

use std::time::Duration;

use crate::limits::{ABSENT_BLOCKS, DELIVERIES_PER_REQUEST_MAX};

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Known; nothing is promised yet.
    Queued,
    /// Our result is recorded and signed; signatures of others are awaited.
    Signed,
    /// Our delivery is under way.
    Delivering,
    /// The latest chain shows a delivery, ours or another's.
    Delivered,
    /// The safe chain shows it.
    Done,
    /// We will not work on it; the reason is on record.
    Declined,
    /// A reorg removed the request. It may come back.
    Dropped,
    /// It ended without a delivery.
    Closed,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Signed,
        Self::Delivering,
        Self::Delivered,
        Self::Done,
        Self::Declined,
        Self::Dropped,
        Self::Closed,
    ];

    /// The name in the database and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Signed => "signed",
            Self::Delivering => "delivering",
            Self::Delivered => "delivered",
            Self::Done => "done",
            Self::Declined => "declined",
            Self::Dropped => "dropped",
            Self::Closed => "closed",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// True while a worker has something to do or to watch.
    pub fn is_active(self) -> bool {
        match self {
            Self::Queued | Self::Signed | Self::Delivering | Self::Delivered => true,
            Self::Done | Self::Declined | Self::Dropped | Self::Closed => false,
        }
    }
}

/// What one view of the chain says about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Absent,
    Funded,
    /// A quorum's result was accepted, whatever happened to the money afterwards.
    Delivered,
    Refunded,
}

/// Our newest delivery of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    UnderWay,
    /// It can no longer succeed: reverted, or its nonce went to something else.
    Over,
}

/// What is known about the signatures over our result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Our place in the order in which the members may deliver.
    pub rank: usize,
    pub members: usize,
    /// How long we have held a quorum; `None` below the threshold.
    pub quorum_for: Option<Duration>,
}

/// Everything that the decision depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub state: State,
    pub latest: Presence,
    pub safe: Presence,
    /// Unix seconds of the latest block.
    pub chain_time: u64,
    pub head_block: u64,
    /// The block in which the indexer saw the request.
    pub seen_block: u64,
    /// The block in which, or up to which, a delivery was seen; 0 when none was.
    pub delivered_block: u64,
    /// Unix seconds of chain time.
    pub deadline: u64,
    /// The request is as settled as the operator wants for its value before work starts.
    pub may_start: bool,
    pub has_result: bool,
    pub standing: Standing,
    pub delivery: Option<Delivery>,
    pub deliveries: u32,
}

/// What the operator configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// Seconds before the deadline from which on no work is started.
    pub answer_margin: u64,
    /// Seconds before the deadline from which on no delivery is started.
    pub delivery_margin: u64,
    /// How long each rank leaves the delivery to the one before it.
    pub takeover: Duration,
}

/// The next step of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Nothing to do before this time, unless a bell rings.
    Wait(Option<Duration>),
    /// Check the request, answer it, record and sign the result.
    Work,
    /// Make a delivery intent.
    Deliver,
    /// Go to another state. Leaving a delivery behind makes it pointless.
    Become(State, &'static str),
}

/// Decides the next step of an active job.
pub fn decide(view: &View, policy: &Policy) -> Decision {
    match view.latest {
        Presence::Absent => absent(view),
        Presence::Refunded => Decision::Become(State::Closed, "the request was refunded"),
        Presence::Delivered => delivered(view),
        Presence::Funded => funded(view, policy),
    }
}

fn absent(view: &View) -> Decision {
    if view.seen_block.saturating_add(ABSENT_BLOCKS) <= view.head_block {
        return Decision::Become(State::Dropped, "a reorg removed the request");
    }
    Decision::Wait(None)
}

fn delivered(view: &View) -> Decision {
    if view.state != State::Delivered {
        return Decision::Become(State::Delivered, "the latest chain shows a delivery");
    }
    match view.safe {
        Presence::Delivered => Decision::Become(State::Done, "the safe chain shows the delivery"),
        Presence::Absent | Presence::Funded | Presence::Refunded => Decision::Wait(None),
    }
}

fn funded(view: &View, policy: &Policy) -> Decision {
    if view.deadline <= view.chain_time {
        return Decision::Become(State::Closed, "the deadline passed without a delivery");
    }
    let left = view.deadline - view.chain_time;
    match view.state {
        State::Queued if view.has_result => {
            Decision::Become(State::Signed, "the result is on record from before")
        }
        State::Queued if left <= policy.answer_margin => Decision::Become(
            State::Declined,
            "too little time is left before the deadline to answer and deliver",
        ),
        State::Queued if view.may_start => Decision::Work,
        State::Queued => Decision::Wait(None),
        // What an earlier block shows does not take a later one back.
        State::Delivered if view.head_block < view.delivered_block => Decision::Wait(None),
        State::Delivered if view.has_result => {
            Decision::Become(State::Signed, "a reorg took the delivery away")
        }
        State::Delivered => Decision::Become(State::Queued, "a reorg took the delivery away"),
        State::Signed => collected(view, policy, left),
        State::Delivering => match view.delivery {
            Some(Delivery::UnderWay) => Decision::Wait(None),
            Some(Delivery::Over) | None => {
                Decision::Become(State::Signed, "the delivery did not come through")
            }
        },
        State::Done | State::Declined | State::Dropped | State::Closed => Decision::Wait(None),
    }
}

fn collected(view: &View, policy: &Policy, left: u64) -> Decision {
    if view.delivery == Some(Delivery::UnderWay) {
        return Decision::Become(State::Delivering, "the delivery is under way");
    }
    let Some(quorum_for) = view.standing.quorum_for else {
        return Decision::Wait(None);
    };
    if left <= policy.delivery_margin || DELIVERIES_PER_REQUEST_MAX <= view.deliveries {
        return Decision::Wait(None);
    }
    let patience = patience(&view.standing, policy.takeover, left);
    match patience.checked_sub(quorum_for) {
        None | Some(Duration::ZERO) => Decision::Deliver,
        Some(more) => Decision::Wait(Some(more)),
    }
}

/// How long a rank waits for those before it, pressed together so that the last rank too has its turn in the time left.
fn patience(standing: &Standing, takeover: Duration, left: u64) -> Duration {
    let rank = u32::try_from(standing.rank).unwrap_or(u32::MAX);
    let turns = u32::try_from(standing.members).unwrap_or(u32::MAX).saturating_add(1);
    let turn = takeover.min(Duration::from_secs(left) / turns);
    turn.saturating_mul(rank)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICY: Policy =
        Policy { answer_margin: 10, delivery_margin: 2, takeover: Duration::from_secs(5) };

    fn view() -> View {
        View {
            state: State::Queued,
            latest: Presence::Funded,
            safe: Presence::Absent,
            chain_time: 1_000,
            head_block: 50,
            seen_block: 50,
            delivered_block: 0,
            deadline: 1_100,
            may_start: true,
            has_result: false,
            standing: Standing { rank: 0, members: 3, quorum_for: None },
            delivery: None,
            deliveries: 0,
        }
    }

    fn with_quorum(rank: usize, seconds: u64) -> View {
        let quorum_for = Some(Duration::from_secs(seconds));
        let standing = Standing { rank, members: 3, quorum_for };
        View { state: State::Signed, has_result: true, standing, ..view() }
    }

    #[test]
    fn the_leader_delivers_at_once_and_the_others_in_turn() {
        assert_eq!(decide(&with_quorum(0, 0), &POLICY), Decision::Deliver);
        let five = Decision::Wait(Some(Duration::from_secs(5)));
        assert_eq!(decide(&with_quorum(1, 0), &POLICY), five);
        assert_eq!(decide(&with_quorum(1, 5), &POLICY), Decision::Deliver);
        assert_eq!(
            decide(&with_quorum(2, 9), &POLICY),
            Decision::Wait(Some(Duration::from_secs(1)))
        );
    }

    #[test]
    fn near_the_deadline_the_ranks_follow_each_other_faster() {
        let mut view = with_quorum(2, 4);
        view.chain_time = view.deadline - 8;
        assert_eq!(decide(&view, &POLICY), Decision::Deliver);
    }

    #[test]
    fn a_delivery_that_a_reorg_took_away_is_work_again() {
        let view = View { state: State::Delivered, has_result: true, ..view() };
        assert!(matches!(decide(&view, &POLICY), Decision::Become(State::Signed, _)));
        let view = View { has_result: false, ..view };
        assert!(matches!(decide(&view, &POLICY), Decision::Become(State::Queued, _)));
        let earlier = View { delivered_block: view.head_block + 1, ..view };
        assert_eq!(decide(&earlier, &POLICY), Decision::Wait(None));
    }

    #[test]
    fn an_endpoint_that_lags_behind_the_indexer_is_no_evidence_of_a_reorg() {
        let mut view = View { latest: Presence::Absent, ..view() };
        view.head_block = view.seen_block + ABSENT_BLOCKS - 1;
        assert_eq!(decide(&view, &POLICY), Decision::Wait(None));
        view.head_block += 1;
        assert!(matches!(decide(&view, &POLICY), Decision::Become(State::Dropped, _)));
    }

    #[test]
    fn names_and_states_are_one_to_one() {
        for state in State::ALL {
            assert_eq!(State::from_name(state.name()), Some(state));
        }
        assert_eq!(State::from_name("lost"), None);
    }

    fn any_view() -> impl Strategy<Value = View> {
        let active = prop::sample::select(vec![
            State::Queued,
            State::Signed,
            State::Delivering,
            State::Delivered,
        ]);
        let presence = prop::sample::select(vec![
            Presence::Absent,
            Presence::Funded,
            Presence::Delivered,
            Presence::Refunded,
        ]);
        let delivery =
            prop::sample::select(vec![None, Some(Delivery::UnderWay), Some(Delivery::Over)]);
        let quorum = prop::option::of((0u64..100).prop_map(Duration::from_secs));
        (
            (active, presence.clone(), presence, 900u64..1_200, 0u64..60),
            (any::<bool>(), any::<bool>(), 0usize..32, quorum, delivery, 0u32..5),
        )
            .prop_map(|(a, b)| View {
                state: a.0,
                latest: a.1,
                safe: a.2,
                chain_time: a.3,
                head_block: a.4,
                seen_block: 30,
                delivered_block: 0,
                deadline: 1_100,
                may_start: b.0,
                has_result: b.1,
                standing: Standing { rank: b.2, members: 32, quorum_for: b.3 },
                delivery: b.4,
                deliveries: b.5,
            })
    }

    proptest! {
        #[test]
        fn work_starts_only_on_a_funded_request_with_time_left(view in any_view()) {
            if decide(&view, &POLICY) == Decision::Work {
                prop_assert_eq!(view.latest, Presence::Funded);
                prop_assert!(view.chain_time + POLICY.answer_margin < view.deadline);
                prop_assert!(view.may_start && !view.has_result);
            }
        }

        #[test]
        fn a_delivery_needs_a_quorum_a_turn_and_no_other_delivery(view in any_view()) {
            if decide(&view, &POLICY) == Decision::Deliver {
                prop_assert!(view.standing.quorum_for.is_some());
                prop_assert!(view.delivery != Some(Delivery::UnderWay));
                prop_assert!(view.chain_time + POLICY.delivery_margin < view.deadline);
                prop_assert!(view.deliveries < DELIVERIES_PER_REQUEST_MAX);
            }
        }

        #[test]
        fn done_means_on_the_safe_chain(view in any_view()) {
            if let Decision::Become(State::Done, _) = decide(&view, &POLICY) {
                prop_assert_eq!(view.safe, Presence::Delivered);
                prop_assert_eq!(view.latest, Presence::Delivered);
            }
        }

        #[test]
        fn a_change_of_state_is_a_change(view in any_view()) {
            if let Decision::Become(state, reason) = decide(&view, &POLICY) {
                prop_assert!(state != view.state);
                prop_assert!(!reason.is_empty());
            }
        }
    }
}
