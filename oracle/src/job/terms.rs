//! What was agreed about a request, checked against itself: whatever the indexer says, the hashes have to fit.

use alloy::primitives::B256;
use alloy::sol_types::Eip712Domain;
use auspex_protocol::bindings::IRequestEscrow::{Offer, OperatorSet, Request};
use auspex_protocol::document::{
    DocumentError, OfferDocument, OperatorSetDocument, RequestDocument,
};
use auspex_protocol::limits::INPUT_BYTES_MAX;
use auspex_protocol::terms::{input_hash, offer_hash, operator_set_hash, request_id};

/// A request with everything that its terms commit to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub request_id: B256,
    pub request: Request,
    pub offer: Offer,
    pub operator_set: OperatorSet,
    pub input: Vec<u8>,
}

/// Why what the indexer says about a request is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    #[error(transparent)]
    Document(#[from] DocumentError),
    #[error(
        "request.{field}: the terms commit to {committed}, but what is shown hashes to {shown}"
    )]
    Commitment { field: &'static str, committed: B256, shown: B256 },
    #[error("input: {0} bytes, over the limit of {INPUT_BYTES_MAX}")]
    InputTooLarge(usize),
}

impl Terms {
    /// Puts a request together and checks every hash in it.
    pub fn verified(
        domain: &Eip712Domain,
        claimed_id: B256,
        request: &RequestDocument,
        offer: &OfferDocument,
        operator_set: &OperatorSetDocument,
        input: Vec<u8>,
    ) -> Result<Self, TermsError> {
        if INPUT_BYTES_MAX < input.len() {
            return Err(TermsError::InputTooLarge(input.len()));
        }
        let request = Request::try_from(request)?;
        let offer = Offer::from(offer);
        let operator_set = OperatorSet::from(operator_set);
        let commitments = [
            ("requestId", claimed_id, request_id(domain, &request)),
            ("offerHash", request.offerHash, offer_hash(&offer)),
            ("operatorSetHash", request.operatorSetHash, operator_set_hash(&operator_set)),
            ("inputHash", request.inputHash, input_hash(&input)),
        ];
        for (field, committed, shown) in commitments {
            if committed != shown {
                return Err(TermsError::Commitment { field, committed, shown });
            }
        }
        Ok(Self { request_id: claimed_id, request, offer, operator_set, input })
    }

    /// Unix seconds of chain time.
    pub fn deadline(&self) -> u64 {
        self.request.deadline.to::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;
    use auspex_protocol::terms::escrow_domain;

    use super::*;

    fn documents() -> (Eip712Domain, B256, RequestDocument, OfferDocument, OperatorSetDocument) {
        let domain = escrow_domain(31337, Address::repeat_byte(3));
        let offer = Offer { price: 5, ..Offer::default() };
        let set = OperatorSet {
            setId: 1,
            epoch: 1,
            threshold: 1,
            signers: vec![Address::repeat_byte(1)],
        };
        let request = Request {
            maxAmount: 5,
            offerHash: offer_hash(&offer),
            operatorSetHash: operator_set_hash(&set),
            inputHash: input_hash(b"why?"),
            ..Request::default()
        };
        let id = request_id(&domain, &request);
        (domain, id, (&request).into(), (&offer).into(), (&set).into())
    }

    #[test]
    fn terms_whose_hashes_fit_are_taken() {
        let (domain, id, request, offer, set) = documents();
        let terms = Terms::verified(&domain, id, &request, &offer, &set, b"why?".to_vec());
        assert_eq!(terms.map(|terms| terms.request_id), Ok(id));
    }

    #[test]
    fn every_changed_part_is_noticed() {
        let (domain, id, request, offer, set) = documents();
        let check = |id: B256,
                     request: &RequestDocument,
                     offer: &OfferDocument,
                     set: &OperatorSetDocument,
                     input: &[u8],
                     expected: &str| {
            let terms = Terms::verified(&domain, id, request, offer, set, input.to_vec());
            match terms {
                Err(TermsError::Commitment { field, .. }) => assert_eq!(field, expected),
                other => panic!("{expected}: {other:?}"),
            }
        };
        check(B256::ZERO, &request, &offer, &set, b"why?", "requestId");
        let dearer = RequestDocument { max_amount: 6, ..request };
        check(id, &dearer, &offer, &set, b"why?", "requestId");
        let cheaper = OfferDocument { price: 4, ..offer };
        check(id, &request, &cheaper, &set, b"why?", "offerHash");
        let later = OperatorSetDocument { epoch: 2, ..set.clone() };
        check(id, &request, &offer, &later, b"why?", "operatorSetHash");
        check(id, &request, &offer, &set, b"how?", "inputHash");
    }
}
