// SPDX-License-Identifier: MIT OR Apache-2.0
pragma solidity ^0.8.28;

import {IOperatorRegistry} from "../interfaces/IOperatorRegistry.sol";
import {IRequestEscrow} from "../interfaces/IRequestEscrow.sol";
import {SignatureProof} from "./SignatureProof.sol";

/// @notice Whether enough members of an operator set signed one digest.
library Quorum {
    /// @notice Reverts unless at least `threshold` members attest to `digest`, in strictly ascending order of their signers.
    /// Each attestation that is shown has to be valid: who delivers leaves bad ones out.
    function verify(
        IRequestEscrow.OperatorSet calldata operatorSet,
        IRequestEscrow.Attestation[] calldata attestations,
        bytes32 digest,
        IOperatorRegistry registry
    ) internal view returns (address[] memory signers) {
        uint256 count = attestations.length;
        require(count >= operatorSet.threshold, IRequestEscrow.QuorumNotReached(count, operatorSet.threshold));
        signers = new address[](count);
        address previous = address(0);
        uint256 member = 0;
        for (uint256 i = 0; i < count; ++i) {
            address signer = attestations[i].signer;
            require(signer > previous, IRequestEscrow.SignersNotAscending(signer));
            // Both lists ascend, so one walk over the members finds every signer.
            while (member < operatorSet.signers.length && operatorSet.signers[member] < signer) ++member;
            require(
                member < operatorSet.signers.length && operatorSet.signers[member] == signer
                    && !registry.isRevoked(signer),
                IRequestEscrow.UnknownSigner(signer)
            );
            require(
                SignatureProof.isValid(signer, digest, attestations[i].signature),
                IRequestEscrow.InvalidSignature(signer)
            );
            signers[i] = signer;
            previous = signer;
        }
    }
}
