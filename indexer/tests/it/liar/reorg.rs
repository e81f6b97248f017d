//! Branches that come and go.

use auspex_devnet::postgres::TestDatabase;
use auspex_devnet::replay::{Branch, Faults};

use super::play::{FINALIZED_LAG, LEVELS, Last, PAST, Play, grow, past};

fn other(branch: &Branch, depth: u64, length: u64, salt: u64) -> Branch {
    let above = branch.head() - depth;
    let mut other = branch.fork(above, salt);
    grow(&mut other, above + length, Last::Numbered);
    other
}

/// Depth, and length of the branch that replaces it.
const REORGS: &[(&str, u64, u64)] = &[
    ("the tip at the same height", 1, 1),
    ("depth 5", 5, 6),
    ("depth 60", 60, 61),
    ("depth 60, equally long", 60, 60),
    ("shorter by 3, depth 5", 5, 2),
    ("shorter by 40, depth 60", 60, 20),
    ("as deep as can be", FINALIZED_LAG, FINALIZED_LAG + 1),
];

#[tokio::test]
async fn a_reorg_right_after_the_backfill_is_followed() {
    let database = TestDatabase::create().await.expect("create a database");
    let branch = past(Last::Numbered);
    for level in LEVELS {
        for (name, depth, length) in REORGS {
            let name = format!("{name}, after the backfill, {level:?}");
            let mut play = Play::new(&database, &branch, level).await;
            play.assert_follows(&branch, &name).await;
            let other = other(&branch, *depth, *length, 1);
            play.node.switch(other.clone(), other.head());
            play.assert_follows(&other, &name).await;
        }
    }
}

#[tokio::test]
async fn a_reorg_of_blocks_that_were_followed_live_is_followed() {
    let database = TestDatabase::create().await.expect("create a database");
    for level in LEVELS {
        let mut branch = past(Last::Numbered);
        let mut play = Play::new(&database, &branch, level).await;
        play.assert_follows(&branch, "before").await;
        for _ in 0..20 {
            let height = branch.head() + 1;
            grow(&mut branch, height, Last::Numbered);
            play.node.switch(branch.clone(), height);
            play.assert_follows(&branch, "live").await;
        }
        let mut salt = 1;
        for (name, depth, length) in REORGS.iter().take(4) {
            salt += 1;
            branch = other(&branch, *depth, *length, salt);
            play.node.switch(branch.clone(), branch.head());
            play.assert_follows(&branch, &format!("{name}, live, {level:?}")).await;
        }
    }
}

#[tokio::test]
async fn a_reorg_that_is_itself_undone_is_followed_both_ways() {
    let database = TestDatabase::create().await.expect("create a database");
    for level in LEVELS {
        let mut first = past(Last::Numbered);
        let mut play = Play::new(&database, &first, level).await;
        play.assert_follows(&first, "A").await;
        let second = other(&first, 5, 6, 1);
        play.node.switch(second.clone(), second.head());
        play.assert_follows(&second, "A, B").await;
        let height = first.head() + 2;
        grow(&mut first, height, Last::Numbered);
        play.node.switch(first.clone(), height);
        play.assert_follows(&first, "A, B, A").await;
    }
}

#[tokio::test]
async fn a_reorg_in_the_middle_of_a_backfill_is_followed() {
    let database = TestDatabase::create().await.expect("create a database");
    let branch = past(Last::Numbered);
    for level in LEVELS {
        let mut play = Play::new(&database, &branch, level).await;
        // Small answers, so that the backfill takes many steps.
        play.node.set_faults(Faults { logs_max: Some(40), ..Faults::default() });
        play.steps(8).await;
        let other = other(&branch, 60, 61, 1);
        play.node.switch(other.clone(), other.head());
        play.assert_follows(&other, &format!("{level:?}")).await;
    }
}

#[tokio::test]
async fn a_branch_that_leaves_below_the_finalized_block_halts_and_takes_nothing_back() {
    let database = TestDatabase::create().await.expect("create a database");
    let branch = past(Last::Numbered);
    for level in LEVELS {
        let mut play = Play::new(&database, &branch, level).await;
        play.assert_follows(&branch, "before").await;
        let stored = play.stored().await;
        let deep = other(&branch, FINALIZED_LAG + 20, FINALIZED_LAG + 25, 1);
        assert!(PAST < deep.head());
        play.node.switch(deep.clone(), deep.head());
        play.steps(10).await;
        let reason = play.halted().expect("halted");
        assert!(reason.contains("finalized"), "{reason}");
        assert_eq!(play.stored().await, stored);
        // The node comes to its senses.
        play.node.switch(branch.clone(), branch.head());
        play.assert_follows(&branch, "after").await;
        assert_eq!(play.halted(), None);
    }
}
