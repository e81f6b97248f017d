//! What must be true, compared with what is stored.

use alloy::primitives::U256;
use alloy::sol_types::SolEvent;
use auspex_indexer::chain::RawLog;
use auspex_indexer::project::request::Status;
use auspex_indexer::project::row::Row;
use rand::Rng;
use rand::rngs::StdRng;

use super::memory::Memory;
use super::node::World;
use super::story::{AGENTS, Created, ESCROW, FACTORY, Noted, Story, TOKEN};

/// After every step: what is stored is the truth of one branch up to the cursor, and finality never goes back. Blocks that
/// were not written since the last look are what they were then.
pub(super) fn check(world: &World, memory: &mut Memory, finalized: &mut u64) {
    let Some(touched) = memory.touched.take() else { return };
    check_from(world, memory, finalized, touched);
}

fn check_from(world: &World, memory: &Memory, finalized: &mut u64, lowest: u64) {
    let Some(cursor) = &memory.cursor else { return };
    let Some(tip) = world.chain.block(cursor.tip.hash) else {
        panic!("an unknown block is indexed")
    };
    assert_eq!(tip.number, cursor.tip.number);
    assert!(
        *finalized <= cursor.finalized,
        "finality went back from {finalized} to {}",
        cursor.finalized
    );
    *finalized = cursor.finalized;
    assert!(cursor.finalized <= cursor.safe && cursor.safe <= cursor.tip.number);

    let mut block = tip;
    loop {
        let watched = block.logs().filter(|log| is_kept(&block.story, log));
        let expected = watched.map(|log| (log.block_hash, log.log_index, &log.data));
        let stored = memory.facts.get(&block.number).into_iter().flatten();
        let stored = stored.map(|fact| (fact.block_hash, u64::from(fact.log_index), &fact.data));
        assert!(stored.eq(expected), "other facts than the chain's in block {}", block.number);
        if block.number <= lowest {
            break;
        }
        match world.chain.block(block.parent) {
            Some(parent) => block = parent,
            None => break,
        }
    }
    let highest = memory.facts.keys().next_back().copied().unwrap_or(0);
    assert!(highest <= cursor.tip.number, "a fact above the cursor");
    assert_eq!(memory.hashes.keys().next_back(), Some(&cursor.tip.number));
    assert!(
        memory.reader.iter().eq(memory.current()),
        "a reader of the outbox believes something else"
    );
    compare(&tip.story, memory.current().map(|(_, row)| row));
}

/// Whether a log of a block is one of the facts; `story` is what was true after the block.
fn is_kept(story: &Story, log: &RawLog) -> bool {
    match log.address {
        AGENTS | ESCROW | TOKEN => true,
        FACTORY => log.topics.first() == Some(&Created::SIGNATURE_HASH),
        address => {
            log.topics.first() == Some(&Noted::SIGNATURE_HASH) && story.children.contains(&address)
        }
    }
}

/// When all is well again: finality is known, and every past block reads as it was.
pub(super) fn check_at_rest(world: &World, memory: &Memory, rng: &mut StdRng) {
    check_from(world, memory, &mut 0, 0);
    let head = world.chain.head();
    for (number, hash) in &memory.hashes {
        assert!(world.chain.is_canonical(*number, *hash), "block {number} is an orphan");
    }
    for _ in 0..3 {
        let number = rng.random_range(0..=head.number);
        if let Some(block) = world.chain.ancestor(head.hash, number) {
            compare(&block.story, memory.as_of(number));
        }
    }
}

fn compare<'a>(story: &Story, rows: impl Iterator<Item = &'a Row>) {
    let (mut agents, mut offers, mut requests, mut totals, mut credits, mut payments) =
        (0, 0, 0, 0, 0, 0);
    for row in rows {
        match row {
            Row::Agent(agent) => {
                agents += 1;
                let expected = &story.agents[&agent.agent_id.0.to::<u64>()];
                assert_eq!((agent.owner.0, &agent.agent_uri), (expected.0, &expected.1));
            }
            Row::Offer(offer) => {
                offers += 1;
                assert_eq!(offer.active, story.offers[&offer.offer_hash.0]);
            }
            Row::Request(request) => {
                requests += 1;
                let (status, amount) = story.requests[&request.request_id.0];
                let expected = match status {
                    "funded" => Status::Funded,
                    "settled" => Status::Settled,
                    _ => Status::Refunded,
                };
                assert_eq!((request.status, request.max_amount.0), (expected, U256::from(amount)));
            }
            Row::SplitTotal(total) => {
                totals += 1;
                assert_eq!(total.settled_total.0, story.split_totals[&total.split_hash.0]);
                assert_eq!(total.credited.0 + total.residue.0, total.settled_total.0);
            }
            Row::Credit(credit) => {
                credits += 1;
                assert_eq!(
                    (credit.credited.0, credit.withdrawn.0),
                    story.credits[&credit.account.0]
                );
            }
            Row::X402Settlement(_) => payments += 1,
            Row::UndecodableLog(log) => panic!("an honest log was set aside: {}", log.reason),
            _ => {}
        }
    }
    assert_eq!(agents, story.agents.len(), "agents");
    assert_eq!(offers, story.offers.len(), "offers");
    assert_eq!(requests, story.requests.len(), "requests");
    assert_eq!(totals, story.split_totals.len(), "split totals");
    assert_eq!(credits, story.credits.len(), "credits");
    assert_eq!(payments, story.payments, "payments");
}
