//! EIP-712 as alloy computes it, against what another implementation (eth-account) signed. `contracts/test/Vectors.t.sol`
//! computes the same digests in Solidity.

use alloy::dyn_abi::TypedData;
use alloy::primitives::{Address, B256, Bytes, Signature};
use alloy::sol_types::{SolStruct, SolValue};
use auspex_protocol::bindings::IRequestEscrow::{Request, Result as SignedResult};
use auspex_protocol::quorum::result_digest;
use auspex_protocol::terms::{escrow_domain, request_id};
use serde::Deserialize;

const STANDARDS: &str = include_str!("../../../contracts/test/vectors/eip712.json");
const OURS: &str = include_str!("../../../contracts/test/vectors/eip712-auspex.json");

#[derive(Deserialize)]
struct Vectors {
    signer: Address,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    name: String,
    typed_data: TypedData,
    domain_separator: B256,
    struct_hash: B256,
    digest: B256,
    signature: Bytes,
}

#[test]
fn digests_and_signatures_are_those_of_the_vectors() {
    let mut count = 0;
    for text in [STANDARDS, OURS] {
        let Vectors { signer, vectors } = serde_json::from_str(text).unwrap();
        for vector in vectors {
            let Vector { name, typed_data, .. } = vector;
            assert_eq!(typed_data.domain.separator(), vector.domain_separator, "{name}");
            assert_eq!(typed_data.hash_struct().unwrap(), vector.struct_hash, "{name}");
            assert_eq!(typed_data.eip712_signing_hash().unwrap(), vector.digest, "{name}");
            let signature = Signature::from_raw(&vector.signature).unwrap();
            let recovered = signature.recover_address_from_prehash(&vector.digest).unwrap();
            assert_eq!(recovered, signer, "{name}");
            count += 1;
        }
    }
    assert_eq!(count, 13);
}

/// What this crate hashes through its bindings is what a wallet shows and signs.
#[test]
fn requests_and_results_are_hashed_as_wallets_hash_them() {
    let Vectors { vectors, .. } = serde_json::from_str(OURS).unwrap();
    let [request_vector, result_vector] = &vectors[..] else { panic!("two vectors") };

    let domain = &request_vector.typed_data.domain;
    let chain_id = domain.chain_id.unwrap().to();
    let domain = escrow_domain(chain_id, domain.verifying_contract.unwrap());
    let request = Request::abi_decode(&encoded(&request_vector.typed_data)).unwrap();
    assert_eq!(request.eip712_hash_struct(), request_vector.struct_hash);
    assert_eq!(request_id(&domain, &request), request_vector.digest);

    let result = SignedResult::abi_decode(&encoded(&result_vector.typed_data)).unwrap();
    assert_eq!(result.requestId, request_vector.digest);
    assert_eq!(result_digest(&domain, &result), result_vector.digest);
}

/// A message's ABI encoding, in which bindings and typed data meet.
fn encoded(typed_data: &TypedData) -> Vec<u8> {
    typed_data.coerce().unwrap().abi_encode()
}
