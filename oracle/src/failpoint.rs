//! Places where a test lets a process die: before and after everything that a node, or its signer, makes durable.
//!
//! `AUSPEX_ABORT_AT=POINT=HIT` aborts the process when it passes the point for the HIT-th time, counted from 1. A name that
//! is not one of ours belongs to another program of the same test and is passed over. Builds without debug assertions,
//! such as `--release`, hold none of this: there [`pass`] is empty.

macro_rules! points {
    ($($point:ident = $name:literal,)*) => {
        /// Where a process may be told to die. `…ing` is inside an open database transaction, the participle after it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Point {
            $($point,)*
        }

        impl Point {
            pub const ALL: &[Self] = &[$(Self::$point,)*];

            /// The name in `AUSPEX_ABORT_AT`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$point => $name,)*
                }
            }
        }
    };
}

points! {
    // The node's identity and the list of requests.
    IdentityClaimed = "identity-claimed",
    RequestDiscovered = "request-discovered",
    CursorAdvanced = "cursor-advanced",
    // A job under a lease.
    JobClaimed = "job-claimed",
    LeaseRenewed = "lease-renewed",
    JobReleased = "job-released",
    JobMoving = "job-moving",
    JobMoved = "job-moved",
    // From the answer to our signature.
    AnswerDerived = "answer-derived",
    ResultRecorded = "result-recorded",
    ResultSigned = "result-signed",
    AnswerPosted = "answer-posted",
    AnswerStored = "answer-stored",
    MessageSealed = "message-sealed",
    SignatureStored = "signature-stored",
    // Messages of the other operators, and ours to them.
    MessageApplying = "message-applying",
    MessageApplied = "message-applied",
    HeartbeatHeard = "heartbeat-heard",
    QuorumStored = "quorum-stored",
    RefusalStoring = "refusal-storing",
    RefusalStored = "refusal-stored",
    MessagePublished = "message-published",
    PublicationAcknowledged = "publication-acknowledged",
    PublicationNoted = "publication-noted",
    MessagePosted = "message-posted",
    PostingNoted = "posting-noted",
    MessagesPruned = "messages-pruned",
    // From the intent to its outcome: the transaction path.
    DeliveryIntended = "delivery-intended",
    WithdrawalIntended = "withdrawal-intended",
    CustodyLocked = "custody-locked",
    CustodyTaken = "custody-taken",
    GasWeighed = "gas-weighed",
    BatchFormed = "batch-formed",
    TransactionSigned = "transaction-signed",
    NonceAssigned = "nonce-assigned",
    TransactionSent = "transaction-sent",
    SendingNoted = "sending-noted",
    ReplacementSigned = "replacement-signed",
    ReplacementStoring = "replacement-storing",
    ReplacementStored = "replacement-stored",
    FillerSigned = "filler-signed",
    FillerStoring = "filler-storing",
    FillerStored = "filler-stored",
    InclusionStoring = "inclusion-storing",
    InclusionStored = "inclusion-stored",
    OutcomeStoring = "outcome-storing",
    OutcomeStored = "outcome-stored",
    NoncesAdopting = "nonces-adopting",
    NoncesAdopted = "nonces-adopted",
    ManagerStopping = "manager-stopping",
    ManagerStopped = "manager-stopped",
    // The signer and its log.
    SignerStarted = "signer-started",
    PromiseDecided = "promise-decided",
    PromiseWritten = "promise-written",
    PromiseSynchronised = "promise-synchronised",
    PromiseSigned = "promise-signed",
}

/// Marks a place. Does nothing, unless a test has armed it.
#[inline]
pub fn pass(point: Point) {
    #[cfg(debug_assertions)]
    armed::pass(point);
    #[cfg(not(debug_assertions))]
    let _ = point;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::Point;

    struct Armed {
        point: Point,
        /// Passes until the process dies.
        left: AtomicU64,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    pub(super) fn pass(point: Point) {
        let armed = ARMED.get_or_init(|| {
            let text = std::env::var("AUSPEX_ABORT_AT").ok()?;
            let (point, hit) = read(&text)?;
            Some(Armed { point, left: AtomicU64::new(hit) })
        });
        let Some(armed) = armed else { return };
        if armed.point == point && armed.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            tracing::error!(point = point.name(), "a test ends this process here");
            std::process::abort();
        }
    }

    /// `POINT=HIT`, or `None` when it is not one of ours.
    fn read(text: &str) -> Option<(Point, u64)> {
        let (name, hit) = text.split_once('=')?;
        let point = Point::ALL.iter().find(|point| point.name() == name)?;
        Some((*point, hit.parse().ok().filter(|hit| 0 < *hit)?))
    }

    #[test]
    fn a_point_is_read_by_its_name_and_its_hit() {
        assert_eq!(read("nonce-assigned=3"), Some((Point::NonceAssigned, 3)));
        for bad in ["nonce-assigned", "nonce-assigned=0", "nonce-assigned=-1", "fact-written=1", ""]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_two_points_share_a_name() {
        let names: std::collections::BTreeSet<_> =
            Point::ALL.iter().map(|point| point.name()).collect();
        assert_eq!(names.len(), Point::ALL.len());
    }
}
